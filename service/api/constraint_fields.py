"""Reads the constraint of a request from the fields of any dialect; errors name the field."""

from collections.abc import Callable, Mapping
from typing import Any

from model.constraints.constraint import Constraint, Kind
from model.errors import ParameterError

OFF: dict[str, Any] = {"grammar": "", "bad_words": []}
"""Values that request nothing, as None does in every field: clients of llama.cpp send an empty grammar by default,
and an empty list of words forbids nothing. Other empty values keep the meaning of their field: `{}` is the schema of
any JSON value; an empty pattern or list is refused."""

LARGEST = 1 << 18  # parts and characters of a JSON value: a larger one is far beyond any limit, and is not serialised


def constraint_of(fields: Mapping[str, Any], within: str = "") -> Constraint | None:
    """The constraint that a request's fields specify; None if they specify none.

    within: the prefix of the names in the request, such as "parameters.".
    Raises ParameterError if two fields specify one, or a field cannot be read.
    """
    asked = [
        (name, FIELDS[name](within + name, value))
        for name, value in fields.items()
        if value is not None and value != OFF.get(name)
    ]
    found = [(name, constraint) for name, constraint in asked if constraint is not None]
    if len(found) > 1:
        (first, _), (second, _) = found[:2]
        raise _error(second, f"{second} and {first} both constrain the text; send only one of them.")
    return found[0][1] if found else None


def _error(name: str, message: str) -> ParameterError:
    """An error about a field; the message names the part of the field."""
    return ParameterError(name.partition(".")[0], message)


def _from_text(kind: Kind) -> Callable[[str, Any], Constraint]:
    def read(name: str, value: Any) -> Constraint:
        if not isinstance(value, str):
            raise _error(name, f"{name} is not a string; send one.")
        return Constraint(kind, value, name)

    return read


def _from_json(kind: Kind) -> Callable[[str, Any], Constraint]:
    """Reads a JSON value, or a string that contains one."""

    def read(name: str, value: Any) -> Constraint:
        if isinstance(value, str):
            return Constraint(kind, value, name)
        if _size(value) > LARGEST:
            raise _error(name, f"{name} is far too large; send at most some thousand parts.")
        return Constraint.of_value(kind, value, name)

    return read


def _from_list(kind: Kind, of: type, what: str) -> Callable[[str, Any], Constraint]:
    def read(name: str, value: Any) -> Constraint:
        if not isinstance(value, list) or not value or not all(type(one) is of for one in value):
            raise _error(name, f"{name} is not a list of {what}; send at least one.")
        return _from_json(kind)(name, value)

    return read


def _size(value: Any) -> int:
    """The number of parts and characters of a JSON value; stops counting beyond LARGEST."""
    size, waiting = 0, [value]
    while waiting and size <= LARGEST:
        one = waiting.pop()
        size += 1
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
            size += sum(map(len, one))
    return size


def _format(name: str, value: Any) -> Constraint | None:
    """OpenAI's `response_format`, with the additions of llama.cpp's server."""
    kind = _member(name, value, "type")
    if kind == "text":
        return None
    if kind == "json_schema":
        inner = value.get("json_schema", value)
        return _from_json("json_schema")(f"{name}.json_schema.schema", _member(f"{name}.json_schema", inner, "schema"))
    if kind == "json_object":
        if value.get("schema") is not None:
            return _from_json("json_schema")(f"{name}.schema", value["schema"])
        return Constraint("json_object", "", name)
    kinds = "text, json_object or json_schema"
    raise _error(name, f"{name}.type is {_shown(kind)}; choose {kinds}.")


def _structured(name: str, value: Any) -> Constraint | None:
    """vLLM's `structured_outputs`: an object with one kind of constraint."""
    if not isinstance(value, dict):
        raise _error(name, f"{name} is not an object; send one with regex, choice, json or grammar.")
    kinds = {key: inner for key, inner in value.items() if inner is not None and key not in OPTIONS}
    unknown = next((key for key in kinds if key not in STRUCTURED), None)
    if unknown is not None or len(kinds) != 1:
        what = f"has {_shown(unknown)}" if unknown is not None else f"has {len(kinds)} kinds"
        raise _error(name, f"{name} {what}; send one of {', '.join(STRUCTURED)}.")
    (kind, inner), *_ = kinds.items()
    return STRUCTURED[kind](f"{name}.{kind}", inner)


def _typed(name: str, value: Any) -> Constraint:
    """text-generation-inference's `grammar`: a type and a value."""
    kind, inner = _member(name, value, "type"), _member(name, value, "value")
    if kind == "regex":
        return _from_text("regex")(f"{name}.value", inner)
    if kind == "json":
        return _from_json("json_schema")(f"{name}.value", inner)
    if kind == "json_schema":
        return _from_json("json_schema")(f"{name}.value.schema", _member(f"{name}.value", inner, "schema"))
    raise _error(name, f"{name}.type is {_shown(kind)}; choose regex, json or json_schema.")


def _grammar(name: str, value: Any) -> Constraint:
    """llama.cpp's `grammar` is a string; text-generation-inference's is an object."""
    return _typed(name, value) if isinstance(value, dict) else _from_text("grammar")(name, value)


def _any_object(name: str, value: Any) -> Constraint | None:
    if not isinstance(value, bool):
        raise _error(name, f"{name} is neither true nor false.")
    return Constraint("json_object", "", name) if value else None


def _member(name: str, value: Any, member: str) -> Any:
    if not isinstance(value, dict) or value.get(member) is None:
        raise _error(name, f"{name} has no {member}; send an object with one.")
    return value[member]


def _shown(value: Any) -> str:
    """A value as an error shows it: a string in quotes, or else the JSON type."""
    return repr(value[:40]) if isinstance(value, str) else JSON_KINDS[type(value)]


JSON_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    dict: "an object",
    list: "a list",
    type(None): "null",
}

OPTIONS = {"disable_any_whitespace", "disable_additional_properties", "disable_fallback", "backend"}
"""vLLM's options, which are ignored: texts are always compact, and objects closed."""

STRUCTURED: dict[str, Callable[[str, Any], Constraint | None]] = {
    "regex": _from_text("regex"),
    "choice": _from_list("choice", str, "texts"),
    "json": _from_json("json_schema"),
    "json_object": _any_object,
    "grammar": _from_text("grammar"),
}
FIELDS: dict[str, Callable[[str, Any], Constraint | None]] = {
    "response_format": _format,
    "structured_outputs": _structured,
    "guided_regex": STRUCTURED["regex"],
    "guided_choice": STRUCTURED["choice"],
    "guided_json": STRUCTURED["json"],
    "guided_grammar": STRUCTURED["grammar"],
    "json_schema": _from_json("json_schema"),
    "grammar": _grammar,
    "allowed_token_ids": _from_list("allowed_ids", int, "ids"),
    "bad_words": _from_list("bad_words", str, "texts"),
}
"""How each field is read."""
