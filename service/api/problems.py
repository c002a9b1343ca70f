"""What is wrong with a request, in this server's words: a library's own name no remedy, and no place to go."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from pydantic_core import core_schema

Context = Mapping[str, Any]

# For each kind of pydantic's errors what to do; kinds of errors that are raised here have sentences of their own.
REMEDIES: dict[str, str | Callable[[Context], str]] = {
    "missing": "it is required",
    "none_required": "this server does not support it, leave it out",
    "string_unicode": "half of a surrogate pair is no Unicode; send whole characters",
    "string_type": "send a text",
    "bool_type": "send true or false",
    "int_type": "send a whole number",
    "int_from_float": "send a whole number",
    "int_parsing_size": "send a smaller whole number",
    "float_type": "send a number",
    "finite_number": "send a finite number",
    "list_type": "send a list",
    "dict_type": "send an object",
    "model_type": "send an object",
    "model_attributes_type": "send an object",
    "too_long": lambda about: f"send at most {about['max_length']:,}",
    "too_short": lambda about: f"send at least {about['min_length']:,}",
    "string_too_long": lambda about: f"send at most {about['max_length']:,} characters",
    "string_too_short": lambda about: f"send at least {about['min_length']:,} character",
    "greater_than": lambda about: f"send a number above {number(about['gt'])}",
    "greater_than_equal": lambda about: f"send {number(about['ge'])} or more",
    "less_than": lambda about: f"send a number below {number(about['lt'])}",
    "less_than_equal": lambda about: f"send {number(about['le'])} or less",
    "literal_error": lambda about: f"send {about['expected']}",
}
OWN = frozenset(get_args(core_schema.ErrorType))  # kinds of pydantic

# Of the JSON parser of Python, by the beginning of its message
NOT_JSON = {
    "Expecting value": "a value is missing",
    "Expecting property name": 'a name in double quotes is missing, or there is a comma before a "}"',
    "Expecting ',' delimiter": "a comma or the closing bracket is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Unterminated string": "a string begins that does not end",
    "Invalid control character": r"a control character stands in a string; write it as \n or \u0000",
    "Invalid \\escape": r"a backslash stands before what it cannot escape; write \\ for a backslash",
    "Invalid \\uXXXX": r"four hexadecimal digits are missing after \u",
    "Extra data": "more comes after the end of the value",
}

CHATS = "/v1/chat/completions"
NO_CHAT = "This server continues text and has no chat; send the text as a prompt to {v1}/completions."
OTHER_CHAT = (
    "This server has no chat in this shape; send messages to {v1}/chat/completions, or a prompt to {v1}/completions."
)
TO_EMBEDDINGS = "Send the texts to {v1}/embeddings."
A_BASE = "This is a base URL; below it are {v1}/completions and {v1}/models."

OF_CHATS = frozenset(
    (CHATS, "/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/v1/complete", "/apply-template")
)
"""Paths at which servers chat."""

# A path that is a route of this server never comes here.
ELSEWHERE = {
    **dict.fromkeys(("/api/generate", "/completion", "/infill", "/predict"), "Send the text to {v1}/completions."),
    **dict.fromkeys(("/embedding", "/embed", "/api/embed", "/api/embeddings"), TO_EMBEDDINGS),
    **dict.fromkeys(("/api/tags", "/api/show", "/v1/engines", "/props"), "{v1}/models lists the models."),
    **dict.fromkeys(("/ping", "/healthz", "/livez", "/v1/health"), "The server tells how it is at {root}/health."),
    **dict.fromkeys(("/readyz",), "The server tells whether it takes work at {root}/health/ready."),
    **dict.fromkeys(("/v1", "/api"), A_BASE),
}
ENGINE = re.compile("(/v1)?/engines/[^/]+/completions")
"""The route of completions before they named their model."""
NOTHING = "There is nothing here; the routes are listed at {root}/docs."


def number(value: float) -> str:
    """A limit as people write it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def remedy(problem: Mapping[str, Any]) -> str:
    """What to do about one validation error."""
    kind = problem["type"]
    if isinstance(value := problem.get("input"), float) and math.isnan(value) and "number" not in kind:
        return "NaN is no number; send one"
    known = REMEDIES.get(kind)
    if known is not None:
        return known if isinstance(known, str) else known(problem["ctx"])
    if kind in OWN:
        return "it cannot have this value"
    text: str = problem["msg"]
    return text[:1].lower() + text[1:]


def not_json(text: str, at: int, why: str) -> str:
    """Where a text stops to be JSON, in lines and columns from 1, and why."""
    if not text.strip():
        return "The body is empty; send a JSON object"
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    reason = next((ours for theirs, ours in NOT_JSON.items() if why.startswith(theirs)), "it cannot be read")
    return f"The body is not JSON at line {line:,}, column {column:,}: {reason}"


def where_to_go(path: str, routes: Collection[str], root: str = "") -> str:
    """A sentence about a path that is no route. root: the prefix that a proxy has before the routes."""
    trimmed = path.rstrip("/")
    shorter = trimmed.removeprefix("/v1")
    if ENGINE.fullmatch(trimmed):
        sentence = "Send the text to {v1}/completions."
    elif trimmed in routes:
        sentence = f"This path has no slash at its end: {{root}}{trimmed}."
    elif trimmed in OF_CHATS and f"/v1{trimmed}" not in routes:
        sentence = OTHER_CHAT if CHATS in routes else NO_CHAT
    elif trimmed in ELSEWHERE:
        sentence = ELSEWHERE[trimmed]
    elif trimmed and f"/v1{trimmed}" in routes:
        sentence = f"This route is {{v1}}{trimmed}; the base URL of clients ends with /v1."
    elif shorter != trimmed and shorter in routes:
        sentence = f"This route is {{root}}{shorter}."
    else:
        sentence = NOTHING
    return sentence.format(root=root, v1=f"{root}/v1")
