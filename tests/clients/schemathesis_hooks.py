"""What schemathesis is told beyond the API's description: fields limit each other, which JSON Schema cannot say."""

from importlib import import_module
from typing import Any

LARGEST_N = 16
LARGEST_MAX_TOKENS = 100_000
LARGEST_LOGPROBS = 100
VOCABULARY = 321  # ids of the bundled model
MOST_WORK = 2_000_000  # characters times reported likeliest ones: keeps an answer to some seconds, and below max_work
WITH_A_SEARCH = {
    *("prompt", "model", "max_tokens", "min_tokens", "n", "best_of", "use_beam_search", "length_penalty"),
    *("early_stopping", "stop", "stop_token_ids", "include_stop_str_in_output", "echo", "logprobs", "seed", "user"),
}
"""Fields that a beam search takes; others are refused beside it unless they change nothing."""


def number(fields: dict[str, Any], name: str, default: int, most: int) -> int | None:
    """The field's value, its default where it is null or absent; None where it is not valid, which has to stay so."""
    value = default if fields.get(name) is None else fields[name]
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return int(value) if whole and 0 <= value <= most else None


def agree(body: dict[str, Any]) -> dict[str, Any]:
    """The same completion request with fields that are good on their own brought into agreement."""
    body = dict(body)
    n, best_of = number(body, "n", 1, LARGEST_N), number(body, "best_of", 0, LARGEST_N)
    if n and best_of and (best_of < n or body.get("stream")):
        body["best_of"] = n
    if body.get("use_beam_search") is True:
        body = {name: value for name, value in body.items() if name in WITH_A_SEARCH}
    biases = body.get("logit_bias")
    if isinstance(biases, dict) and all(key.isascii() and key.isdigit() and len(key) < 10 for key in biases):
        body["logit_bias"] = {
            key if int(key) < VOCABULARY else str(int(key) % VOCABULARY): biases[key] for key in biases
        }
    tokens, top = number(body, "max_tokens", 16, LARGEST_MAX_TOKENS), number(body, "logprobs", 0, LARGEST_LOGPROBS)
    prompts = len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
    work = (tokens or 0) * max(n or 1, best_of or 1) * ((top or 0) + 1) * max(1, prompts)
    if work > MOST_WORK:
        body["max_tokens"] = 64
    return body


def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ARG001
    """Called with every request before it is sent."""
    if case.operation.path == "/v1/completions" and isinstance(case.body, dict):
        case.body = agree(case.body)


import_module("schemathesis").hook(before_call)
