"""Requests that must be answered with an error, and the check that the error has its one shape."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import httpx

from model.sampling.parameters import RANGES
from service.api.schemas import LARGEST_MAX_TOKENS, ErrorBody

LARGEST_BODY = 4096  # bytes of an error
JSON = {"content-type": "application/json"}
MARK = "do not send this back "
COMPLETIONS = "/v1/completions"


@dataclass(frozen=True)
class Case:
    """A request that fails: with which status, and on account of which field."""

    name: str
    status: int
    param: str | None = None
    method: str = "POST"
    path: str = COMPLETIONS
    content: bytes | str = b""
    headers: dict[str, str] = field(default_factory=lambda: JSON)

    def __str__(self) -> str:
        return self.name


def with_field(name: str, value: Any) -> Case:
    """A completion with one wrong field."""
    return Case(f"{name}={json.dumps(value)[:20]}", 400, name, content=json.dumps({"prompt": "a", name: value}))


def with_fields(param: str, fields: dict[str, Any]) -> Case:
    """A completion whose fields do not go together, or ask for too much."""
    return Case(f"{param} of {json.dumps(fields)[:40]}", 400, param, content=json.dumps({"prompt": "a", **fields}))


def with_text(name: str, text: str, param: str | None = "") -> Case:
    """The same of JSON text that json.dumps would not write."""
    before = "" if name == "prompt" else '"prompt": "a", '
    param = name if param == "" else param
    return Case(f"{name}={text[:20]}", 400, param, content=f'{{{before}"{name}": {text}}}')


NUMBERS = [
    *(*RANGES, "max_tokens", "min_tokens", "n", "best_of", "logprobs", "seed", "stream_interval", "length_penalty"),
]
HUGE = "1" + "0" * 400

NO_NUMBER: list[Any] = [True, "1", [], {}, 10**30, -(10**30)]
WRONG: dict[str, list[Any]] = {
    "label": [1, True, [], {}, "F", MARK * 65, "\ud800"],
    "model": [1, True, [], {}, MARK * 400, "\ud800"],
    "prompt": [
        *(1, True, {}, None, [], [None], [{}], [1.5], [True], [1, True], ["a", 1], ["a", [1]], [[1], "a"], [[1], 2]),
        *([[1.5]], [[True]], [["a"]], [[[1]]], [-1], [[3, -1]], [500], [10**30], [[2**31]], ["a"] * 129, [[1]] * 129),
        *(MARK * 2000, ["a", MARK * 2000], ["a", "\ud800"], [[1] * 20_001]),
    ],
    "max_tokens": [*NO_NUMBER, 1.5, -1, LARGEST_MAX_TOKENS + 1],
    "temperature": [*NO_NUMBER, -0.1, 100.1],
    "min_tokens": [*NO_NUMBER, 1.5, -1, LARGEST_MAX_TOKENS + 1],
    "top_p": [*NO_NUMBER, 0, -0.1, 1.01],
    "top_k": [*NO_NUMBER, 1.5, -2],
    "min_p": [*NO_NUMBER, -0.1, 1.01],
    "typical_p": [*NO_NUMBER, 0, -0.1, 1.01],
    "presence_penalty": [*NO_NUMBER, 100.1],
    "frequency_penalty": [*NO_NUMBER, -100.1],
    "repetition_penalty": [*NO_NUMBER, 0, -1, 11],
    "seed": [*NO_NUMBER, 1.5, 2**64, -(2**63) - 1],
    "stop": [1, True, {}, "", "a" * 1025, "\udfff", [MARK] * 17, ["a", ""], ["a", 1], ["a", None], ["a", MARK * 100]],
    "stop_token_ids": [1, True, {}, "a", [1.5], [True], ["a"], [-1], [10**30], [500], [200], [97], [300] * 17],
    "n": [*NO_NUMBER, 1.5, 0, 17, -1],
    "echo": [1, "true", [], 0.0],
    "stream": [1, "true", [], 0.0],
    "stream_options": [1, [], "usage", {"include_usage": 1}, {"continuous_usage_stats": "true"}, {}],
    "stream_interval": [*NO_NUMBER, -0.1, 10_000.1],
    "user": [1, True, [], {}, MARK * 400, "\ud800"],
    "logprobs": [*NO_NUMBER, 1.5, -1, 101],
    "logit_bias": [
        *([], 1, "5", {"a": 1}, {"": 1}, {"-1": 1}, {"01": 1}, {"1.0": 1}, {"500": 1}, {"9" * 400: 1}, {MARK * 99: 1}),
        *({"5": 100.5}, {"5": -101}, {"5": True}, {"5": "1"}, {"5": None}, {"5": 10**30}, {"\ud800": 1}),
        {str(token): 0 for token in range(1025)},
    ],
    "suffix": ["x", 1, MARK * 400, "\ud800"],
    "best_of": [*NO_NUMBER, 1.5, 0, 17],
    "use_beam_search": [1, "true", [], 0.0],
    "length_penalty": [*NO_NUMBER, -10.1, 10.1],
    "early_stopping": [1, "true", "soon", [], 0.0, MARK * 400],
    "include_stop_str_in_output": [1, "true", [], 0.0],
    "ignore_eos": [1, "true", [], 0.0],
    "response_format": [
        *(1, True, "json", [], {"type": "xml"}, {"kind": 1}, {"type": 1}, {"type": "json_schema"}),
        *({"type": "json_schema", "json_schema": {"schema": 1}}, {"type": "json_object"}),
    ],
    "structured_outputs": [1, "a", [], {"regex": "a", "choice": ["a"]}, {"regex": 1}, {"lark": "a"}, {"choice": []}],
    "guided_regex": [1, True, [], {}, "(", "a" * 9000, "\ud800", "(" * 40 + ")" * 40, "((a{99}){99}){99}"],
    "guided_choice": [1, "a", {}, [1], [""], ["a", None], ["\ud800"], ["Ω"], ["a"] * 10_001],
    "guided_json": [1, False, [], "{", "[]", {"type": 1}, {"const": "\ud800"}, {"const": MARK}, {"$ref": "http://a/b"}],
    "guided_grammar": [1, [], {}, "start: b", 'start: "\ud800"', "root ::= ("],
    "json_schema": [1, False, "{}", [], {"type": "a"}, {"enum": []}],
    "grammar": [1, [], {}, "root ::= none"],
    "allowed_token_ids": [1, "a", {}, [1.5], ["a"], [True], [5], [-1], [10**30]],
    "bad_words": [1, "a", {}, [1], [""], ["\ud800"]],
    "cache_salt": [1, True, [], {}, "", MARK * 400, "\ud800"],
    "state": [1, True, [], {}, "", "x", "é", "\ud800", "A" * 20_000, MARK * 400],
    "return_state": [1, "true", [], 0.0],
    "request_id": [1, True, [], {}, "", "a b", "a\n", "é", "a" * 129, "\x00", "\ud800", MARK * 400],
}
TOGETHER: list[tuple[str, dict[str, Any]]] = [
    ("best_of", {"n": 3, "best_of": 2}),
    ("best_of", {"best_of": 2, "stream": True}),
    ("use_beam_search", {"use_beam_search": True, "stream": True}),
    ("best_of", {"use_beam_search": True, "n": 3, "best_of": 2}),
    ("state", {"use_beam_search": True, "return_state": True}),
    ("max_tokens", {"use_beam_search": True, "best_of": 16, "max_tokens": 1_000_000, "logprobs": 9}),
    ("stream_options", {"stream": False, "stream_options": {"include_usage": True}}),
    ("max_tokens", {"max_tokens": 100_000, "n": 16, "logprobs": 20}),
    ("prompt", {"prompt": ["a"] * 128, "max_tokens": 10_000, "n": 16}),
    ("max_tokens", {"prompt": "a" * 15_000, "echo": True, "logprobs": 100, "n": 16, "max_tokens": 0}),
]
FIELDS = [
    *(with_field(name, wrong) for name, values in WRONG.items() for wrong in values),
    *(with_text(name, text) for name in NUMBERS for text in (HUGE, "NaN", "Infinity", "-Infinity", "1e400")),
    *(with_text(name, text, None) for name in NUMBERS for text in ("1" * 5000, "0x1", "+1", ".5")),
    *(with_text("prompt", text) for text in ('"\\ud800"', '"\\udc00\\ud800"', '["\\ud800"]', '"a\\ud83d"')),
    *(with_text("logit_bias", f'{{"5": {text}}}') for text in (HUGE, "NaN", "Infinity", "-Infinity", "1e400")),
    *(with_text("prompt", f"[{text}]") for text in (HUGE, "NaN", "1e400", "5, -0.5")),
    *(with_fields(param, fields) for param, fields in TOGETHER),
    Case("two wrong fields", 400, "n", content='{"prompt": "a", "max_tokens": -1, "n": -1}'),
    Case("no prompt", 400, "prompt", content="{}"),
]
BODIES = [
    Case("empty body", 400),
    *(Case(f"JSON {text}", 400, content=text) for text in ("null", "[]", "5", "NaN", '"prompt"', "[{}]", "true")),
    *(
        Case(f"not JSON {text[:9]}", 400, content=text)
        for text in ("{", "prompt", "{'prompt': 1}", MARK * 100, "{} {}")
    ),
    Case("control character in a string", 400, content='{"prompt": "a\x00b"}'),
    Case("not UTF-8", 400, content=b'{"prompt": "\xff\xfe\xfd"}'),
    Case("a name that is no Unicode", 400, content='{"prompt": "a", "\\ud800": 1}'),
    *(
        Case(f"nested {depth} deep", 400, "prompt", content='{"prompt": ' + "[" * depth + "]" * depth + "}")
        for depth in (3, 100, 300, 450)
    ),
    Case("nested deeply", 400, content=b'{"prompt": ' + b"[" * 40_000),
    Case("nested deeply where nobody looks", 400, content='{"prompt": "a", "x": ' + "[" * 20_000 + "]" * 20_000 + "}"),
    Case("too large", 413, content=json.dumps({"prompt": MARK * 6000})),
    Case("too large where nobody looks", 413, content=json.dumps({"prompt": "a", "x": MARK * 6000})),
    Case(
        "form", 415, content=b"prompt=" + MARK.encode(), headers={"content-type": "application/x-www-form-urlencoded"}
    ),
    Case("plain text", 415, content='{"prompt": "a"}', headers={"content-type": "text/plain"}),
    Case("no type", 415, content='{"prompt": "a"}', headers={}),
    Case("odd type", 415, content='{"prompt": "a"}', headers={"content-type": "x" * 3000}),
]
ROUTES = [
    Case("another model", 404, "model", content='{"prompt": "a", "model": "large"}'),
    Case("another model with NUL", 404, "model", content='{"prompt": "a", "model": "\\u0000' + "\\u0001" * 900 + '"}'),
    Case("no such model", 404, "model", "GET", "/v1/models/large"),
    Case("no such model, long", 404, "model", "GET", "/v1/models/" + "x" * 5000),
    Case("no such model, odd", 404, "model", "GET", "/v1/models/%00%ff%F0%9F%98%80/%2e%2e"),
    *(Case(f"no route {path}", 404, None, "GET", path) for path in ("/v1", "/v2/completions", "/health/", "/%00")),
    *(Case(f"no asset {path}", 404, None, "GET", f"/static-offline-docs/{path}") for path in ("x", "%2e%2e/core.py")),
    *(
        Case(f"{method} {path}", 405, None, method, path)
        for method, path in [
            *((method, COMPLETIONS) for method in ("GET", "PUT", "DELETE", "PATCH")),
            *(("POST", path) for path in ("/v1/models", "/v1/models/small", "/health", "/docs", "/openapi.json")),
            ("BREW" * 5, COMPLETIONS),
        ]
    ),
]


TYPES = re.compile(r"\.(dict|list|str|int|float|bool|literal|function|\[key\])|dict\[|list\[|literal\[")
"""Names of types that a validator puts into the places it reports."""


def check(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer, once its status, shape and size are right."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert len(response.content) <= LARGEST_BODY
    assert set(response.json()) == {"error"}
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    error = ErrorBody.model_validate(response.json()).error
    assert re.search(r"[.)]$", error.message), error.message
    assert "Traceback" not in error.message
    assert not TYPES.search(error.message), error.message
    assert error.code
    return error.model_dump()
