"""Parts of JSON schemas read: types, counts, bounds of numbers, and what several say together."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from model.patterns.number_range import Bound
from model.patterns.pattern_tree import NotRegular


def joined(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """One schema that says what some say. Raises NotRegular where two say the same thing in other words."""
    whole: dict[str, Any] = {}
    if sum("properties" in part for part in parts) > 1 and any("additionalProperties" in part for part in parts):
        raise NotRegular("it joins objects of which one has no others")
    for part in parts:
        for name, value in part.items():
            if name not in whole or whole[name] == value:
                whole[name] = value
            elif name == "properties" and isinstance(value, dict) and not value.keys() & whole[name].keys():
                whole[name] = {**whole[name], **value}
            elif name == "required" and isinstance(value, list):
                whole[name] = [*whole[name], *(one for one in value if one not in whole[name])]
            else:
                raise NotRegular(f"it joins schemas that all say {name}")
    return whole


def bounds_of(schema: Mapping[str, Any]) -> tuple[Bound | None, Bound | None]:
    """The least and the largest number that a schema allows. Raises NotRegular where a bound is no number."""
    found: list[Bound | None] = []
    for names, stricter in ((("minimum", "exclusiveMinimum"), max), (("maximum", "exclusiveMaximum"), min)):
        values = [schema.get(name) for name in names]
        if not all(value is None or (type(value) in (int, float) and math.isfinite(value)) for value in values):
            raise NotRegular("a bound is no number")
        closed, opened = (None if value is None else Decimal(repr(value)) for value in values)
        if opened is not None and (closed is None or stricter(closed, opened) == opened):
            found.append(Bound(opened, True))
        else:
            found.append(None if closed is None else Bound(closed))
    return found[0], found[1]


def type_of(value: Any) -> str:
    """The type of a JSON value; a whole number with a point is taken for none that a schema names."""
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", type(None): "null", list: "array", dict: "object"}
    return names.get(type(value), "integer" if isinstance(value, int) else "number")


def count_of(schema: Mapping[str, Any], name: str) -> int | None:
    """A count, or None. Raises NotRegular on anything else."""
    value = schema.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise NotRegular(f"its {name} is no count")
    return value
