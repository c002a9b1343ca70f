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
    try:
        pattern = re.compile(number_range(low, high))
    except NotRegular:
        assert low is not None
        assert high is not None
        assert abs(low.value - high.value) < 1
        return
    ends = [bound.value for bound in (low, high) if bound is not None]
    steps = map(Decimal, ("-1", "-0.1", "-0.01", "0", "0.01", "0.1", "1")) if near else ()
    for number in [*numbers, *(end + step for end, step in product(ends, steps))]:
        for text in written(number):
            found = pattern.fullmatch(text) is not None
            shortest = text == f"{number.normalize():f}" != "-0"
            assert found == inside(number, low, high) if shortest else found <= inside(number, low, high), text


@pytest.mark.parametrize("value", ["1e16", "0.0000000000000001"])
def test_a_bound_of_too_many_digits_has_none(value: str) -> None:
    with pytest.raises(NotRegular, match="too many digits"):
        number_range(Bound(Decimal(value)), None)
