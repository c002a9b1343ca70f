"""What schemathesis is told beyond the API's description: fields limit each other, which JSON Schema cannot say."""

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

LARGEST_N = 16
LARGEST_MAX_TOKENS = 100_000
LARGEST_LOGPROBS = 100
LONGEST_NAME = 1_024
READABLE: dict[str, tuple[Any, Any]] = {
    "regex": (str, "a*"),
    "grammar": (str, 'root ::= "a"'),
    "json": (dict | str, {"type": "null"}),
}
GUIDED = ("guided_regex", "guided_grammar", "guided_json")
DRAWN = 300  # an id that it draws
UNGUIDED: dict[str, tuple[Any, Any]] = {"grammar": READABLE["grammar"], "json_schema": (dict, {"type": "null"})}
GOOD: dict[str, Any] = {
    **{name: value for name, (_, value) in UNGUIDED.items()},
    "allowed_token_ids": [DRAWN],
    "guided_choice": ["a"],
    **{f"guided_{name}": value for name, (_, value) in READABLE.items()},
}
"""Fields as they are after they were made readable; of several fields that say what matches, these are left out."""
MATCHED = (*GOOD, "bad_words", "structured_outputs", "response_format")
MOST_LISTED, SOME_LISTED = 10_000, 50
VOCABULARY = 321  # ids of the bundled model
LAYERS, WIDTH = 2, 512  # of its network
UNKNOWN = ("state", "label")
LINES = "application/x-ndjson"
MOST_INSPECTED = 1_000  # characters, of an answer of this server that is sent as a text
DEEPEST = 16  # layers that any network may have
LARGEST_WIDTH = 1_000_000  # at least as many numbers as any request may ask of a vector
MOST_WORK = 20_000  # characters times reported likeliest ones: an answer takes a second, also on a busy machine
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


def texts_of(value: Any) -> bool:
    """Whether it is a list of texts as a choice takes it."""
    return (
        isinstance(value, list) and 0 < len(value) <= MOST_LISTED and all(isinstance(one, str) and one for one in value)
    )


def readable(fields: dict[str, Any]) -> dict[str, Any]:
    """The same with patterns and schemas that can be read in place of any text or object; an empty text stays wrong."""
    return {
        name: READABLE[name][1] if value != "" and name in READABLE and isinstance(value, READABLE[name][0]) else value
        for name, value in fields.items()
    }


def agree(body: dict[str, Any]) -> dict[str, Any]:
    """The same completion request with fields that are good on their own brought into agreement."""
    body = dict(body)
    n, best_of = number(body, "n", 1, LARGEST_N), number(body, "best_of", 0, LARGEST_N)
    if n and best_of and (best_of < n or body.get("stream")):
        body["best_of"] = n
    if body.get("use_beam_search") is True:
        body = {name: value for name, value in body.items() if name in WITH_A_SEARCH}
    if isinstance(body.get("label"), str):  # the bundled model's texts have none
        del body["label"]
    if isinstance(words := body.get("bad_words"), list) and len(words) <= MOST_LISTED:
        body["bad_words"] = words[:SOME_LISTED]  # how many there may be depends on their letters
    if texts_of(body.get("guided_choice")):
        body["guided_choice"] = ["a"]  # the model draws only characters that it has seen
    if isinstance(structured := body.get("structured_outputs"), dict):
        choice = {"choice": ["a"]} if texts_of(structured.get("choice")) else {}
        body["structured_outputs"] = {**readable(structured), **choice}
        if {kind: value for kind, value in structured.items() if value is not None} == {
            "json_object": True
        }:  # the bundled model has no braces
            del body["structured_outputs"]
    if isinstance(form := body.get("response_format"), dict) and form.get("type") == "json_object":
        body["response_format"] = {"type": "text"}
    guided = readable({name.removeprefix("guided_"): body.get(name) for name in GUIDED})
    body |= {f"guided_{name}": value for name, value in guided.items() if value is not None}
    ids = body.get("allowed_token_ids")
    if isinstance(ids, list) and 0 < len(ids) <= MOST_LISTED and all(type(one) is int for one in ids):
        body["allowed_token_ids"] = [DRAWN]
    body |= {
        name: value for name, (kind, value) in UNGUIDED.items() if isinstance(body.get(name), kind) and body[name] != ""
    }
    good = [name for name, value in GOOD.items() if body.get(name) == value]
    good += ["bad_words"] if texts_of(body.get("bad_words")) else []
    good += ["structured_outputs"] if _asks_for_one(body.get("structured_outputs")) else []
    for name in good:
        if sum(body.get(one) not in (None, "", [], {}) for one in MATCHED) > 1:
            del body[name]
    biases = body.get("logit_bias")
    if isinstance(biases, dict) and all(key.isascii() and key.isdigit() and len(key) < 10 for key in biases):
        body["logit_bias"] = {
            key if int(key) < VOCABULARY else str(int(key) % VOCABULARY): biases[key] for key in biases
        }
    tokens, top = number(body, "max_tokens", 16, LARGEST_MAX_TOKENS), number(body, "logprobs", 0, LARGEST_LOGPROBS)
    prompts = len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
    work = (tokens or 0) * max(n or 1, best_of or 1) * ((top or 0) + 1) * max(1, prompts)
    matches = any(body.get(name) is not None for name in MATCHED)
    if work > MOST_WORK or (matches and tokens == 0):  # a text that matches may need a character
        body["max_tokens"] = 64
    return body


def _asks_for_one(structured: Any) -> bool:
    """Whether it asks for one kind of text, after it was made readable."""
    kinds = {**{name: value for name, (_, value) in READABLE.items()}, "choice": ["a"]}
    if not isinstance(structured, dict) or not structured.keys() <= {*kinds, "json_object"}:
        return False
    return [one for one in structured.items() if one[1] is not None] in [[one] for one in kinds.items()]


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | str) and value != ""


def chat(body: dict[str, Any]) -> dict[str, Any]:
    """The same for a request for a chat, whose likeliest characters are asked for in two fields."""
    top = number(body, "top_logprobs", 0, LARGEST_LOGPROBS)
    agreed = agree({**body, "logprobs": top or 0})
    agreed = {name: body["logprobs"] if name == "logprobs" else agreed[name] for name in body if name in agreed}
    if agreed.get("logprobs") is False and top is not None:  # it says of how many
        agreed.pop("top_logprobs", None)
    if agreed.get("add_generation_prompt") is False and agreed.get("continue_final_message", False) is False:
        agreed["continue_final_message"] = True
    if number(agreed, "max_completion_tokens", 16, LARGEST_MAX_TOKENS) not in (None, 16):
        agreed["max_completion_tokens"] = 64
    return agreed


def embedding(body: dict[str, Any]) -> dict[str, Any]:
    """The same request with a layer that the network has, and no more numbers than its vectors have."""
    layer = body.get("layer")
    if (
        isinstance(layer, int | float)
        and not isinstance(layer, bool)
        and float(layer).is_integer()
        and abs(layer) <= DEEPEST
    ):
        body = {**body, "layer": int(layer) % LAYERS}
    if number(body, "dimensions", 0, LARGEST_WIDTH):
        body = {**body, "dimensions": min(int(body["dimensions"]), WIDTH)}
    return body


def inspection(body: dict[str, Any]) -> dict[str, Any]:
    """The same request with units that the network has."""
    if isinstance(text := body.get("text"), str):
        body = {**body, "text": text[:MOST_INSPECTED]}
    units = body.get("units")
    if not isinstance(units, list):
        return body
    return {**body, "units": [_existing(unit) if isinstance(unit, dict) else unit for unit in units]}


def _existing(unit: dict[str, Any]) -> dict[str, Any]:
    """The same unit, or one that there is."""
    sizes = {"layer": LAYERS, "unit": WIDTH}
    in_range = {name for name in sizes if name in unit and (number(unit, name, -1, 1 << 20) or 0) > 0}
    return {name: int(value) % sizes[name] if name in in_range else value for name, value in unit.items()}


def influence(body: dict[str, Any]) -> dict[str, Any]:
    """The same request with a position in the text, which has a character."""
    if body.get("text") == "":
        body = {**body, "text": "a"}
    if isinstance(text := body.get("text"), str) and number(body, "position", -1, 2**53):
        body = {**body, "position": int(body["position"]) % len(text)}
    return body


def without_state(fields: dict[str, Any]) -> dict[str, Any]:
    """The same without a state, which only the server makes, and without a label, which the model's texts lack."""
    return {name: value for name, value in fields.items() if name not in UNKNOWN or not isinstance(value, str)}


AGREEING: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "/v1/completions": agree,
    "/v1/chat/completions": chat,
    "/v1/embeddings": embedding,
    "/v1/inspect": inspection,
    "/v1/inspect/influence": influence,
}


def with_json(parameters: dict[str, Any]) -> dict[str, Any]:
    """The same parameters with JSON in a text that has to hold a schema, and a pattern that is one."""
    tokens, top = number(parameters, "max_new_tokens", 20, LARGEST_MAX_TOKENS), parameters.get("top_n_tokens")
    if tokens and tokens * (100 if top else 1) > MOST_WORK:
        parameters = {**parameters, "max_new_tokens": 64}
    grammar = parameters.get("grammar")
    if not isinstance(grammar, dict):
        return parameters
    kind, value = grammar.get("type"), grammar.get("value")
    if value == "":  # wrong, whatever the kind
        return parameters
    if kind == "regex" and isinstance(value, str):
        grammar = {**grammar, "value": "a*"}
    elif kind == "json" and isinstance(value, dict | str):
        grammar = {**grammar, "value": "{}"}
    elif kind == "json_schema" and isinstance(value, dict) and _is_schema(value.get("schema")):
        grammar = {**grammar, "value": {"schema": "{}"}}
    return {**parameters, "grammar": grammar}


def of_one_model(case: Any, body: dict[str, Any]) -> dict[str, Any]:
    """The same request of one model: the path's, and none in the body, or the query's, in the body, too."""
    named, asked = body.get("model"), (case.query or {}).get("model")
    if named is not None and not (isinstance(named, str) and len(named) <= LONGEST_NAME):
        return body
    if (case.path_parameters or {}).get("model"):
        return {name: value for name, value in body.items() if name != "model"}
    return {**body, "model": asked} if isinstance(asked, str) and 0 < len(asked) <= LONGEST_NAME else body


def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ARG001
    """Called with every request before it is sent."""
    if case.headers:
        case.headers.pop("Last-Event-ID", None)  # no event has the id that it draws
    if not isinstance(case.body, dict):
        return
    body = of_one_model(case, without_state(case.body))
    if (agreeing := AGREEING.get(case.operation.path)) is not None:
        body = agreeing(body)
    elif isinstance(parameters := body.get("parameters"), dict):
        body = {**body, "parameters": with_json(without_state(parameters))}
    case.body = body


def filter_case(context: Any, case: Any) -> bool:  # noqa: ARG001
    """Whether a request is sent: a line that is wrong is answered by a line that says so, below 200."""
    return not (case.media_type == LINES and case.meta is not None and case.meta.generation.mode.is_negative)


def line(context: Any, value: Any) -> bytes:  # noqa: ARG001
    """A body of lines, which has one, as it is sent."""
    return json.dumps(value).encode()


def answered(context: Any, response: Any) -> Any:  # noqa: ARG001
    """The line that answers it."""
    return json.loads(response.content)


schemathesis: Any = import_module("schemathesis")
schemathesis.hook(before_call)
schemathesis.hook(filter_case)
schemathesis.serializer(LINES)(line)
schemathesis.deserializer(LINES)(answered)
