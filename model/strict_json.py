"""Parses JSON as strictly as RFC 8259 and RFC 7493 (I-JSON) demand, within bounds."""

import json
import math
import re
from collections import Counter
from reprlib import repr as brief
from typing import Any

# A record of ours nests six tables deep, holds a few dozen, and a list for each range of ids that training never saw,
# of which a configuration of the largest size has room for fewer. The bounds keep a file of brackets from becoming
# fifty times its size in memory, and its readers from running out of stack.
DEEPEST = 32
MOST_TABLES = 1 << 12
MOST_LISTS = 1 << 15

# Any whole number of up to 308 digits is a float, too, so that no arithmetic on one can fail.
LONG_NUMBER = re.compile(r"(?<!\d)\d{309}")
HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON may spell it; a whole pair begins like this as well


def parse_json(text: str) -> Any:
    """The value of a JSON text that means the same to every reader. Raises ValueError with the reason on any other."""
    if text.count("{") > MOST_TABLES:
        raise ValueError(f"it has more than {MOST_TABLES:,} tables")
    if text.count("[") > MOST_LISTS:
        raise ValueError(f"it has more than {MOST_LISTS:,} lists")
    if LONG_NUMBER.search(text):
        raise ValueError("it has a number of more than 308 digits")
    try:
        value = json.loads(text, object_pairs_hook=_table, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError(f"it nests more than {DEEPEST} deep") from None
    _check_depth(value)
    if HALF_OF_A_PAIR.search(text):
        _check_characters(value)
    return value


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"it has {brief(names.most_common(1)[0][0])} twice")
    return table


def _finite(written: str) -> float:
    value = float(written)
    if not math.isfinite(value):
        raise ValueError(f"it has {brief(written)}, which is no finite number")
    return value


def _inside(values: list[Any]) -> list[Any]:
    """The values directly inside some tables and lists."""
    return [part for value in values for part in (value.values() if isinstance(value, dict) else value)]


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [part for part in level if isinstance(part, (dict, list))]
        if not level:
            return
        level = _inside(level)
    raise ValueError(f"it nests more than {DEEPEST} deep")


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it has half of a surrogate pair") from None
