"""A JSON schema as it is followed: without what it says and does not mean, and with its objects closed.

An object that lists its properties has no others, unless the schema says so itself.
"""

from collections.abc import Callable
from typing import Any

FORMATS = {
    *("date-time", "time", "date", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6"),
    *("uri", "uri-reference", "iri", "iri-reference", "uuid", "uri-template", "json-pointer"),
    *("relative-json-pointer", "regex"),
}
"""All others are notes (JSON Schema 2020-12, Validation 7.2.3); these are heard or refused."""

BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
IN_A_LIST = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
ALONE = (
    *("items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties"),
    *("contains", "propertyNames", "not", "if", "then", "else"),
)

ELSEWHERE = {"additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties", "propertyNames"}
JOINED = {"allOf", "anyOf", "oneOf", "not", "if", "$ref", "dependentSchemas", "dependencies"}


def without_notes(schema: Any) -> Any:
    """The same schema without what means nothing."""
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if not _is_note(schema, name)}
    return inside(kept, without_notes)


def _is_note(schema: dict[str, Any], name: str) -> bool:
    value = schema[name]
    if name == "format":
        return isinstance(value, str) and value not in FORMATS
    if name == "uniqueItems":
        most = schema.get("maxItems")
        return value is False or (type(most) is int and most <= 1)
    return False


def inside(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A schema whose parts are changed."""
    changed = dict(schema)
    for name, value in schema.items():
        if name in BY_NAME and isinstance(value, dict):
            changed[name] = {key: change(part) for key, part in value.items()}
        elif name in IN_A_LIST and isinstance(value, list):
            changed[name] = [change(part) for part in value]
        elif name in ALONE and isinstance(value, dict):
            changed[name] = change(value)
    return changed


def closed(schema: Any) -> Any:
    """The same schema with its objects closed; as it is where schemas are joined, which closed ones could not be."""
    return schema if "allOf" in names(schema) else _closed(schema)


def names(schema: Any) -> set[str]:
    """The names of every table in a JSON value."""
    if isinstance(schema, dict):
        return schema.keys() | set[str]().union(*map(names, schema.values()))
    return set[str]().union(*map(names, schema)) if isinstance(schema, list) else set()


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    changed = dict(schema)
    for name in ("properties", "$defs", "definitions"):
        if isinstance(schema.get(name), dict):
            changed[name] = {key: _closed(value) for key, value in schema[name].items()}
    for name in ("items", "additionalProperties"):
        if name in schema:
            changed[name] = _closed(schema[name])
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        for name in ("anyOf", "oneOf", "prefixItems"):
            if isinstance(schema.get(name), list):
                changed[name] = [_closed(part) for part in schema[name]]
        return changed
    required = schema.get("required", [])
    known = isinstance(required, list) and all(name in properties for name in required)
    if known and not schema.keys() & (ELSEWHERE | JOINED):
        changed["additionalProperties"] = False
    return changed
