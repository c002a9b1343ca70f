"""Objects of a JSON schema closed: one that lists its properties has no others, unless the schema says so itself."""

from typing import Any

ELSEWHERE = {"additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties", "propertyNames"}
JOINED = {"allOf", "anyOf", "oneOf", "not", "if", "$ref", "dependentSchemas", "dependencies"}


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
