"""A JSON schema looser where llguidance (1.9.1) misreads it: a table is exact there, and without one it is refused."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from model.constraints.schemas import inside
from model.patterns.pattern_tree import NotRegular
from model.patterns.schema_parts import bounds_of

EXACT = 1 << 53  # whole numbers up to here are exact as floats, which llguidance makes of them
TOO_LARGE = (
    f"has a whole number beyond {EXACT:,} in a const or enum, which is not followed to the digit where the schema has "
    "no table; write it as a string"
)
SHARED = (
    "has an exclusive bound of a number whose two bounds share their whole part, which is not followed where the "
    "schema has no table; make the bounds inclusive, or leave out what keeps it from having a table"
)
UNCOUNTED = (
    "has minProperties beyond the properties it requires and one more, and names may repeat; require them by name"
)


def loosened(schema: Any) -> tuple[Any, str | None]:
    """The schema for llguidance, and why it is refused where there is no table; None where it is followed as it is."""
    reasons: list[str] = []

    def change(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        return inside(_one(part, reasons.append), change)

    return change(schema), reasons[0] if reasons else None


def _one(schema: dict[str, Any], note: Callable[[str], None]) -> dict[str, Any]:
    changed = dict(schema)
    for name in ("const", "enum"):
        if name in schema and _has_large(schema[name]):
            del changed[name]
            if type(schema[name]) is int:
                changed["type"] = "integer"
            note(TOO_LARGE)
    if _share_their_whole_part(schema):
        for opened, closed in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if opened in changed:
                changed[closed] = changed.pop(opened)
        note(SHARED)
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        value = changed.get(name)
        if type(value) is int and abs(value) > EXACT:
            changed[name] = _inwards(value, name.lower().endswith("minimum"))
    return changed


def _has_large(value: Any) -> bool:
    if isinstance(value, list | dict):
        return any(map(_has_large, value.values() if isinstance(value, dict) else value))
    return type(value) is int and abs(value) > EXACT


def _share_their_whole_part(schema: Mapping[str, Any]) -> bool:
    """Whether an exclusive bound of a number is one that llguidance may write as inclusive."""
    if schema.get("type") == "integer" or not {"exclusiveMinimum", "exclusiveMaximum"} & schema.keys():
        return False
    try:
        low, high = bounds_of(schema)
    except NotRegular:
        return False
    if low is None or high is None or low.value < 0 < high.value:
        return False
    return (low.open or high.open) and int(low.value) == int(high.value)


def _inwards(value: int, up: bool) -> int:
    """The nearest whole number on one side that is exact as a float."""
    near = float(value)
    if (near < value) if up else (near > value):
        near = math.nextafter(near, math.inf if up else -math.inf)
    return int(near)


def uncounted(schema: Any) -> bool:
    """Whether a part of a schema asks for more different names than a text is sure to have."""
    if isinstance(schema, list):
        return any(map(uncounted, schema))
    if not isinstance(schema, dict):
        return False
    least, required = schema.get("minProperties"), schema.get("required", [])
    if type(least) is int and schema.get("additionalProperties") is not False:
        known = len(set(map(str, required))) if isinstance(required, list) else 0
        if least > known + 1:
            return True
    return any(map(uncounted, schema.values()))
