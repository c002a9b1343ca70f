"""The arithmetic of a step: close to the real functions, exact where it must be, and the same bits on every machine."""

import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.arithmetic import (
    BLOCK,
    EXP_LEAST,
    LEAST_NORMAL,
    LEVELS,
    TANH_CLAMP,
    Array,
    block_sums,
    exp,
    levels,
    log,
    sigmoid,
    tanh,
    total,
)

GRID = (np.arange(-(2**17), 2**17) / 2**13).astype(np.float32)  # -16 to 16, every number exact
TINY = np.float32(2.0) ** -np.arange(1, 140)  # down to the subnormal ones
WEIGHTS = st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=70)


def sha256(array: Array) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def test_tanh_is_wrong_by_at_most_four_in_ten_million() -> None:
    for x in (GRID, TINY, -TINY):
        exact = np.tanh(x.astype(np.float64))
        assert (np.abs(tanh(x) - exact) <= 4e-7 * np.abs(exact) + 1e-45).all()


def test_tanh_is_odd_never_beyond_one_and_exactly_one_from_the_clamp_on() -> None:
    assert np.array_equal(tanh(-GRID), -tanh(GRID))
    assert np.abs(tanh(GRID)).max() == 1
    beyond = np.array([TANH_CLAMP, 8, 20, 1e30, np.inf], np.float32)
    assert tanh(beyond).tolist() == [1] * 5
    assert tanh(-beyond).tolist() == [-1] * 5
    below = tanh(np.nextafter(TANH_CLAMP, np.float32(0)))
    assert 1 - 5e-7 < below <= 1


@pytest.mark.parametrize("function", [tanh, sigmoid])
def test_a_larger_number_never_gives_one_that_is_smaller_by_more_than_rounding(
    function: Callable[[Array], Array],
) -> None:
    """The quotient is rounded a few times over, so two neighbours may change places by its last bits, no more."""
    assert np.diff(function(GRID)).min() >= -5e-7


def test_exactly_nothing_and_one_half_at_zero() -> None:
    zeros = np.array([0.0, -0.0], np.float32)
    assert tanh(zeros).tobytes() == zeros.tobytes()
    assert sigmoid(zeros).tolist() == [0.5, 0.5]
    assert exp(zeros).tolist() == [1, 1]


def test_sigmoid_is_the_logistic_function_between_exact_ends() -> None:
    exact = 1 / (1 + np.exp(-GRID.astype(np.float64)))
    np.testing.assert_allclose(sigmoid(GRID), exact, rtol=0, atol=2.5e-7)
    assert sigmoid(np.array([-1e30, -30, 30, 1e30], np.float32)).tolist() == [0, 0, 1, 1]


def test_log_is_wrong_by_at_most_one_in_ten_million_and_undoes_exp() -> None:
    near = (1 + np.arange(-(2**15), 2**15) / 2**17).astype(np.float32)
    far = np.float32(2.0) ** np.arange(-126, 127) * np.float32(1.37)
    for x in (near, far, np.array([LEAST_NORMAL, 1, 3e38], np.float32)):
        exact = np.log(x.astype(np.float64))
        assert (np.abs(log(x) - exact) <= 1.2e-7 * np.abs(exact) + 1e-9).all()
    assert log(np.array([1], np.float32)).tolist() == [0]
    below = np.linspace(-80, 0, 1000).astype(np.float32)
    np.testing.assert_allclose(log(exp(below)), below, rtol=2e-7, atol=2e-7)


def test_exp_is_wrong_by_at_most_one_in_ten_million_and_never_falls() -> None:
    x = np.concatenate([np.linspace(-87, 0, 200_000).astype(np.float32), -TINY[::-1]])
    np.testing.assert_allclose(exp(x), np.exp(x.astype(np.float64)), rtol=1e-7)
    assert np.diff(exp(np.sort(x))).min() >= 0


def test_exp_is_nothing_where_no_normal_number_is_small_enough() -> None:
    below = np.nextafter(EXP_LEAST, np.float32(-np.inf))
    assert exp(np.array([below, -100, -1e30, -np.inf], np.float32)).tolist() == [0] * 4
    assert exp(np.array([EXP_LEAST])) >= np.finfo(np.float32).tiny


def test_no_function_warns_at_the_ends_of_the_floats() -> None:
    ends = np.array([np.finfo(np.float32).max, 1e-45, 0], np.float32)
    for function in (tanh, sigmoid):
        assert np.isfinite(function(np.concatenate([ends, -ends]))).all()
    assert np.isfinite(exp(-ends)).all()


def test_the_bits_are_the_ones_they_always_were() -> None:
    """A change of these changes every text ever drawn from a seed, and the compiled kernel has to change with it."""
    found = [sha256(array) for array in (tanh(GRID), sigmoid(GRID), exp(-np.abs(GRID) * 6))]
    assert found == ["38854e7b4ea7dfa2", "d35e3262a19971c7", "01f4a09083ed8ea2"]


def test_levels_are_the_nearest_of_127ths_and_even_ones_in_the_middle() -> None:
    h = np.array([-1, -0.5, 0, 0.5 / 127, 1.5 / 127, 0.3, 1], np.float32)
    assert levels(h).tolist() == [-127, -64, 0, 0, 2, 38, 127]
    assert np.abs(levels(tanh(GRID))).max() == LEVELS


@given(WEIGHTS, WEIGHTS)
def test_weights_are_added_from_the_first_to_the_last_of_a_block_and_then_block_after_block(
    first: list[float], second: list[float]
) -> None:
    """Spelt out in a loop, of numbers so unlike that any other order would round to another sum."""
    columns = min(len(first), len(second))
    weights = np.array([first[:columns], second[:columns]], np.float32)
    for row, blocks, whole in zip(weights.tolist(), block_sums(weights), total(weights), strict=True):
        expected = []
        for start in range(0, columns, BLOCK):
            running = 0.0
            for weight in row[start : start + BLOCK]:
                running += weight
            expected.append(running)
        assert blocks.tolist() == expected
        running = 0.0
        for block in expected:
            running += block
        assert whole == running


def test_a_sum_of_weights_is_close_to_the_exact_one() -> None:
    weights = np.random.default_rng(0).random((3, 5_000)).astype(np.float32)
    for row, found in zip(weights, total(weights), strict=True):
        assert found == pytest.approx(math.fsum(row.tolist()), rel=1e-13)
