"""The regular expressions of decimal numbers between two bounds, written without an exponent."""

from decimal import Decimal
from typing import NamedTuple

from model.patterns.json_parts import integer_range
from model.patterns.pattern_tree import NotRegular

LARGEST = 10**15  # of a bound; the same of its digits behind the point
ANY_FRACTION = r"(\.[0-9]+)?"
NONE = "[^\0-\U0010ffff]"  # no text matches


class Bound(NamedTuple):
    """One end of a range. open: the number itself is outside of it."""

    value: Decimal
    open: bool = False


def number_range(low: Bound | None, high: Bound | None) -> str:
    """The pattern of the numbers between two bounds; None is without end.

    Raises NotRegular where a bound has too many digits.
    """
    for bound in (low, high):
        if bound is not None and (abs(bound.value) >= LARGEST or bound.value * LARGEST % 1):
            raise NotRegular("a bound has too many digits")
    zero = Bound(Decimal(0))
    parts = []
    if low is None or low.value < 0:
        nearest = zero if high is None or high.value > 0 else Bound(-high.value, high.open)
        parts += [f"-({one})" for one in _magnitudes(nearest, None if low is None else Bound(-low.value, low.open))]
    if high is None or high.value >= 0:
        parts += _magnitudes(zero if low is None or low.value < 0 else low, high)
    return "|".join(parts) or NONE


def _magnitudes(low: Bound, high: Bound | None) -> list[str]:
    """Patterns of the numbers from `low`, which is not negative, to `high`."""
    first = int(low.value)
    if high is None:
        return [f"{first}{_from(low)}", f"({integer_range(first + 1, None)}){ANY_FRACTION}"]
    if high < low or (high.value == low.value and (low.open or high.open)):
        return []
    last = int(high.value)
    if first == last:
        if high.value == low.value:
            return [f"{low.value.normalize():f}".replace(".", r"\.")]
        if low.value != first or low.open:
            return [rf"{first}\.({'|'.join(_between(low, high))})"]
        return [f"{first}{_to(high)}"]
    parts = [f"{first}{_from(low)}"]
    if first + 1 < last:
        parts.append(f"({integer_range(first + 1, last - 1)}){ANY_FRACTION}")
    return parts if high.open and high.value == last else [*parts, f"{last}{_to(high)}"]


def _from(low: Bound) -> str:
    """What follows the whole part of a bound in numbers that have the same one and are not below it."""
    digits = _fraction(low)
    if not digits and not low.open:
        return ANY_FRACTION
    return rf"\.({'|'.join(_above(digits, low.open))})"


def _to(high: Bound) -> str:
    """The same of numbers that are not above it; the bound itself has no zeros behind its fraction."""
    digits = _fraction(high)
    if not digits:
        return r"(\.0+)?"
    beginnings = [digits[:at] for at in range(1, len(digits))]
    return rf"(\.({'|'.join([*_below(digits, high.open), *beginnings])}))?"


def _between(low: Bound, high: Bound) -> list[str]:
    """The digits behind the point of numbers between two bounds of one whole part, of which the lower is not whole, or
    open."""
    size = max(len(_fraction(low)), len(_fraction(high)))
    begin, end = (_fraction(one).ljust(size, "0") for one in (low, high))
    at = next(at for at in range(size) if begin[at] != end[at])
    same, least, most = begin[:at], int(begin[at]), int(end[at])
    parts = [f"{same}{least}{rest}" for rest in _above(begin[at + 1 :].rstrip("0"), low.open)]
    if most - least > 1:
        parts.append(f"{same}[{least + 1}-{most - 1}][0-9]*")
    # 10.2 below 10.25 is written 10.20: llguidance (1.9.1) takes no beginning of the bound there
    return parts + [f"{same}{most}{rest}" for rest in _below(end[at + 1 :].rstrip("0"), high.open)]


def _above(digits: str, is_open: bool) -> list[str]:
    """Digits behind a point, or behind others of them, that are not below some; without zeros at their end."""
    more = "[0-9]*[1-9][0-9]*" if is_open else "[0-9]*"
    parts = [f"{digits[:at]}[{int(digit) + 1}-9][0-9]*" for at, digit in enumerate(digits) if digit != "9"]
    return [*parts, digits + more]


def _below(digits: str, is_open: bool) -> list[str]:
    """The same that are not above some, without beginnings of these; perhaps none."""
    parts = [f"{digits[:at]}[0-{int(digit) - 1}][0-9]*" for at, digit in enumerate(digits) if digit != "0"]
    return parts if is_open else [*parts, digits]


def _fraction(bound: Bound) -> str:
    """The digits behind the point, without zeros at their end."""
    return f"{bound.value:f}".partition(".")[2].rstrip("0")
