"""Sentences about what is wrong with a request; those of the libraries name neither a remedy nor the right route."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from pydantic_core import core_schema

Context = Mapping[str, Any]

# The remedy of each kind of pydantic's errors; errors that are raised here have sentences of their own.
REMEDIES: dict[str, str | Callable[[Context], str]] = {
    "missing": "it is required",
    "none_required": "this server does not support it, leave it out",
    "string_unicode": "half of a surrogate pair is not Unicode; send whole characters",
    "string_type": "send a string",
    "bool_type": "send true or false",
    "int_type": "send an integer",
    "int_from_float": "send an integer",
    "int_parsing_size": "send a smaller integer",
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
OWN = frozenset(get_args(core_schema.ErrorType))  # pydantic's own kinds of errors

# For each error of Python's JSON parser, by the beginning of its message
NOT_JSON = {
    "Expecting value": "a value is missing",
    "Expecting property name": 'a name in double quotes is missing, or there is a comma before a "}"',
    "Expecting ',' delimiter": "a comma or the closing bracket is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Unterminated string": "a string has no closing quote",
    "Invalid control character": r"a string contains a control character; write it as \n or \u0000",
    "Invalid \\escape": r"a backslash precedes a character that it cannot escape; write \\ for a backslash",
    "Invalid \\uXXXX": r"four hexadecimal digits are missing after \u",
    "Extra data": "there is more text after the end of the value",
}

CHATS = "/v1/chat/completions"
NO_CHAT = "This server continues text and has no chat; send the text as a prompt to {v1}/completions."
OTHER_CHAT = (
    "This server has no chat in this format; send messages to {v1}/chat/completions, or a prompt to {v1}/completions."
)
TO_EMBEDDINGS = "Send the texts to {v1}/embeddings."
A_BASE = "This is a base URL; below it are {v1}/completions and {v1}/models."

OF_CHATS = frozenset(
    (CHATS, "/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/v1/complete", "/apply-template")
)
"""Paths of chat in other servers."""

# A path that is a route of this server is never looked up here.
ELSEWHERE = {
    **dict.fromkeys(("/api/generate", "/completion", "/infill", "/predict"), "Send the text to {v1}/completions."),
    **dict.fromkeys(("/embedding", "/embed", "/api/embed", "/api/embeddings"), TO_EMBEDDINGS),
    **dict.fromkeys(("/api/tags", "/api/show", "/v1/engines", "/props"), "{v1}/models lists the models."),
    **dict.fromkeys(("/ping", "/healthz", "/livez", "/v1/health"), "The server reports its state at {root}/health."),
    **dict.fromkeys(("/readyz",), "The server reports whether it accepts requests at {root}/health/ready."),
    **dict.fromkeys(("/v1", "/api"), A_BASE),
}
ENGINE = re.compile("(/v1)?/engines/[^/]+/completions")
"""The route of completions from the time when the path named the model."""
NOTHING = "There is nothing here; the routes are listed at {root}/docs."


def number(value: float) -> str:
    """A limit as text."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def remedy(problem: Mapping[str, Any]) -> str:
    """The remedy of one validation error."""
    kind = problem["type"]
    if isinstance(value := problem.get("input"), float) and math.isnan(value) and "number" not in kind:
        return "NaN is not a number; send a number"
    known = REMEDIES.get(kind)
    if known is not None:
        return known if isinstance(known, str) else known(problem["ctx"])
    if kind in OWN:
        return "it cannot have this value"
    text: str = problem["msg"]
    return text[:1].lower() + text[1:]


def not_json(text: str, at: int, why: str) -> str:
    """Where a text is no longer valid JSON, in lines and columns from 1, and why."""
    if not text.strip():
        return "The body is empty; send a JSON object"
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    reason = next((ours for theirs, ours in NOT_JSON.items() if why.startswith(theirs)), "it cannot be read")
    return f"The body is not JSON at line {line:,}, column {column:,}: {reason}"


def where_to_go(path: str, routes: Collection[str], root: str = "") -> str:
    """A sentence about a path that is not a route. root: the prefix that a proxy puts before the routes."""
    trimmed = path.rstrip("/")
    shorter = trimmed.removeprefix("/v1")
    if ENGINE.fullmatch(trimmed):
        sentence = "Send the text to {v1}/completions."
    elif trimmed in routes:
        sentence = f"This path does not end with a slash: {{root}}{trimmed}."
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
