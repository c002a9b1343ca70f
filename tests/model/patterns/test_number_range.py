"""The pattern of a range of decimal numbers takes those inside, and no others."""

import re
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.patterns.number_range import Bound, number_range
from model.patterns.pattern_tree import NotRegular

NUMBERS = st.decimals(-30, 30, places=2).map(lambda number: number.normalize())
BOUNDS = st.none() | st.builds(Bound, NUMBERS, st.booleans())


def written(number: Decimal) -> set[str]:
    """Some ways to write a number without an exponent."""
    plain = f"{number:f}"
    whole, _, digits = plain.partition(".")
    digits = digits.rstrip("0")
    return {plain, f"{whole}.{digits}0", f"{whole}.{digits}" if digits else whole}


def inside(number: Decimal, low: Bound | None, high: Bound | None) -> bool:
    above = low is None or number > low.value or (number == low.value and not low.open)
    below = high is None or number < high.value or (number == high.value and not high.open)
    return above and below


@given(BOUNDS, BOUNDS, st.lists(NUMBERS, min_size=1, max_size=20), st.booleans())
def test_numbers_inside_match_and_no_others(
    low: Bound | None, high: Bound | None, numbers: list[Decimal], near: bool
) -> None:
    pattern = re.compile(number_range(low, high))
    ends = [bound.value for bound in (low, high) if bound is not None]
    steps = map(Decimal, ("-1", "-0.1", "-0.01", "0", "0.01", "0.1", "1")) if near else ()
    shared = len(ends) == 2 and int(ends[0]) == int(ends[1])
    for number in [*numbers, *(end + step for end, step in product(ends, steps))]:
        found = {text: pattern.fullmatch(text) is not None for text in written(number)}
        shortest = f"{number.normalize():f}"
        if shortest != "-0":  # between 10 and 10.25 there is 10.20, and no 10.2
            assert (any(found.values()) if shared else found[shortest]) == inside(number, low, high), number
        assert max(found.values()) <= inside(number, low, high), found


@pytest.mark.parametrize(
    ("low", "high", "taken", "others"),
    [
        (Bound(Decimal(0), True), Bound(Decimal("0.1")), "0.1 0.01 0.0999 0.05", "0 0.0 -0 0.11 0.2 1"),
        (Bound(Decimal(10), True), Bound(Decimal("10.25"), True), "10.001 10.20 10.249 10.1", "10 10.0 10.25 10.3"),
        (Bound(Decimal("-0.25")), Bound(Decimal(0), True), "-0.25 -0.20 -0.001", "0 -0 -0.0 -0.26 -1"),
        (Bound(Decimal("3.14")), Bound(Decimal("3.1416")), "3.140 3.1410 3.1416 3.14159", "3.1 3.13 3.1417 3.142"),
    ],
)
def test_between_bounds_of_one_whole_part(low: Bound, high: Bound, taken: str, others: str) -> None:
    pattern = re.compile(number_range(low, high))
    assert [text for text in taken.split() if not pattern.fullmatch(text)] == []
    assert [text for text in others.split() if pattern.fullmatch(text)] == []


@pytest.mark.parametrize("value", ["1e16", "0.0000000000000001"])
def test_a_bound_of_too_many_digits_has_none(value: str) -> None:
    with pytest.raises(NotRegular, match="too many digits"):
        number_range(Bound(Decimal(value)), None)
