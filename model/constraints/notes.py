"""What a JSON schema says without meaning it, left out: unknown formats, and what is always so."""

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


def without_notes(schema: Any) -> Any:
    """The same schema without what means nothing."""
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if not _is_note(schema, name)}
    return _inside(kept, without_notes)


def _is_note(schema: dict[str, Any], name: str) -> bool:
    value = schema[name]
    if name == "format":
        return isinstance(value, str) and value not in FORMATS
    if name == "uniqueItems":
        most = schema.get("maxItems")
        return value is False or (type(most) is int and most <= 1)
    return False


def _inside(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
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
