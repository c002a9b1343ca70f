"""A text's place among held-out passages: between quantiles, between lengths, and nothing believed unchecked."""

from typing import Any

import pytest

from model.held_out_surprise import NAME, QUANTILES, HeldOutSurprise

SHORT = (1.0, 1.1, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
LONG = (1.6, 1.7, 1.8, 1.85, 1.9, 2.0, 2.1, 2.2, 2.3, 2.5, 3.0)
KEPT = HeldOutSurprise({16: SHORT, 256: LONG}, "cold passages")


def test_a_quantile_is_its_own_percentile() -> None:
    for quantile, short, long in zip(QUANTILES, SHORT, LONG, strict=True):
        assert KEPT.percentile(short, 16) == pytest.approx(quantile)
        assert KEPT.percentile(long, 256) == pytest.approx(quantile)


def test_between_quantiles_and_lengths_it_is_between() -> None:
    assert KEPT.percentile(2.75, 16) == pytest.approx(37.5)
    assert KEPT.median(64) == pytest.approx(2.5)  # 64 is half way from 16 to 256 in the logarithm
    assert KEPT.percentile(2.5, 64) == pytest.approx(50)
    assert KEPT.percentile((8 + 3) / 2, 64) == pytest.approx(100)
    assert KEPT.percentile((2.5 + 1.9) / 2, 64) == pytest.approx(25)


def test_beyond_them_it_is_as_at_the_nearest() -> None:
    assert KEPT.percentile(0.2, 16) == 0
    assert KEPT.percentile(99.0, 16) == 100
    assert KEPT.percentile(3.0, 1) == KEPT.percentile(3.0, 16) == 50
    assert KEPT.percentile(2.0, 3_000_000) == KEPT.percentile(2.0, 256) == 50
    assert (KEPT.median(1), KEPT.median(10**7)) == (3.0, 2.0)


def test_it_comes_back_from_a_training_table() -> None:
    again = HeldOutSurprise.of({"name": "x", NAME: KEPT.to_json()})
    assert again == KEPT
    assert again is not None
    assert list(again.lengths) == [16, 256]


@pytest.mark.parametrize(
    "damage",
    [
        {"lengths": {}},
        {"lengths": None},
        {"lengths": {"16": list(SHORT)[:-1]}},
        {"lengths": {"16": list(SHORT)[::-1]}},
        {"lengths": {"16": [*SHORT[:-1], float("nan")]}},
        {"lengths": {"16": [*SHORT[:-1], float("inf")]}},
        {"lengths": {"16": [*SHORT[:-1], "8"]}},
        {"lengths": {"16": [-1.0, *SHORT[1:]]}},
        {"lengths": {"0": list(SHORT)}},
        {"lengths": {"016": list(SHORT)}},
        {"lengths": {"1" * 5000: list(SHORT)}},
        {"lengths": {"x": list(SHORT)}},
        {"quantiles": [0, 50, 100]},
        {"protocol": None},
    ],
)
def test_what_a_damaged_table_says_is_nothing(damage: dict[str, Any]) -> None:
    assert HeldOutSurprise.of({NAME: {**KEPT.to_json(), **damage}}) is None


def test_a_table_without_it_says_nothing() -> None:
    assert HeldOutSurprise.of({}) is None
    assert HeldOutSurprise.of({NAME: [1, 2]}) is None
