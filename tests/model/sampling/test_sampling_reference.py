"""The sampler against the same draw spelt out in loops: one row, one column, one number at a time."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.arithmetic import BLOCK, exp
from model.sampling.parameters import SamplingParameters
from model.sampling.probabilities import likeliest, log_probabilities
from model.sampling.random_numbers import uniform
from model.sampling.sampler import RowSampling, Sampler, invert

LEVEL = st.integers(-6, 6).map(lambda number: number / 2)  # few enough to be equal now and then
LOGITS = st.lists(st.one_of(LEVEL, st.floats(-40, 40, width=32)), min_size=1, max_size=3 * BLOCK + 5)
PARAMETERS = st.builds(
    SamplingParameters,
    temperature=st.sampled_from([0.3, 1.0, 1.7, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 17, 1000]),
    top_p=st.sampled_from([1e-9, 0.3, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)


def slow_sum(weights: list[float]) -> float:
    """Block after block, each from its first to its last."""
    whole = 0.0
    for start in range(0, len(weights), BLOCK):
        block = 0.0
        for weight in weights[start : start + BLOCK]:
            block += weight
        whole += block
    return whole


def slow_weights(logits: NDArray[np.float32], parameters: SamplingParameters) -> list[float]:
    """What each column counts in the draw, 0 where a filter drops it."""
    quotients = [(logit - max(logits)) / np.float32(parameters.temperature) for logit in logits]
    weights = [float(exp(np.array([quotient]))[0]) for quotient in quotients]
    order = sorted(range(len(weights)), key=lambda column: (-weights[column], column))
    for column in order[parameters.top_k or len(order) :]:
        weights[column] = 0.0
    whole, likelier, kept = slow_sum(weights), 0.0, [0.0] * len(weights)
    for column in order:
        weight = weights[column]
        in_nucleus = parameters.top_p >= 1 or likelier < parameters.top_p * whole
        if in_nucleus and weight >= np.float32(parameters.min_p):
            kept[column] = weight
        likelier += weight
    return kept


def slow_invert(weights: list[float], share: float) -> int:
    """The column in which the running sum passes a share of the whole."""
    goal, running, passed = share * slow_sum(weights), 0.0, 0
    for start in range(0, len(weights), BLOCK):
        block = weights[start : start + BLOCK]
        if running + slow_sum(block) > goal:
            for at, weight in enumerate(block, start):
                running += weight
                passed = at if weight > 0 else passed
                if running > goal:
                    break
            return passed
        running += slow_sum(block)
    raise AssertionError("no share below 1 lies beyond the whole")


@settings(max_examples=400)
@given(LOGITS, PARAMETERS, st.integers(0, 5), st.integers(0, 2**40))
def test_a_column_is_drawn_as_if_by_hand(
    numbers: list[float], parameters: SamplingParameters, choice: int, position: int
) -> None:
    logits = np.array([numbers], np.float32)
    row = RowSampling(parameters, np.arange(len(numbers)), np.zeros(0, np.int32), choice)
    share = uniform(np.array([parameters.seed], np.uint64), np.array([choice], np.uint64), np.array([position]))
    expected = slow_invert(slow_weights(logits[0], parameters), float(share[0]))
    assert Sampler([row]).sample(logits, np.array([position])).tolist() == [expected]


@example([0.0] * BLOCK + [1.0], 0.0)
@example([1.0] + [0.0] * BLOCK, 1 - 2**-53)
@example([1e-30] * 40 + [1.0], 0.5)
@settings(max_examples=300)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(0, 1, width=32)), min_size=1, max_size=60).filter(any),
    st.floats(0, 1, exclude_max=True),
)
def test_a_share_falls_into_the_column_in_which_the_sum_passes_it(numbers: list[float], share: float) -> None:
    weights = np.array([numbers], np.float32)
    (column,) = invert(weights, np.array([share])).tolist()
    assert column == slow_invert(numbers, share)
    assert numbers[column] > 0


@settings(max_examples=200)
@given(LOGITS, PARAMETERS)
def test_the_likeliest_is_always_kept_and_a_filter_keeps_whatever_is_likelier_than_what_it_keeps(
    numbers: list[float], parameters: SamplingParameters
) -> None:
    """The reference itself is held to the meaning of the words."""
    logits = np.array(numbers, np.float32)
    weights = slow_weights(logits, parameters)
    # Logits closer than a rounding are equally likely: which of them stays is not a matter of size.
    likely = np.exp((logits - logits.max()) / np.float32(parameters.temperature or 1))
    assert max(weights[at] for at in np.flatnonzero(likely == 1)) == 1
    kept = [one for one, weight in zip(likely.tolist(), weights, strict=True) if weight]
    dropped = [one for one, weight in zip(likely.tolist(), weights, strict=True) if not weight]
    assert max(dropped, default=min(kept)) <= min(kept) * (1 + 1e-6)
    assert len(kept) <= (parameters.top_k or len(numbers))


@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 300])
def test_log_probabilities_are_those_of_the_softmax_and_add_up_to_one(width: int) -> None:
    logits = np.random.default_rng(width).normal(0, 4, (7, width)).astype(np.float32)
    found = log_probabilities(logits)
    wide = logits.astype(np.float64)
    expected = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(axis=1), 1, rtol=1e-6)


def test_log_probabilities_of_what_is_never_drawn_are_still_numbers() -> None:
    found = log_probabilities(np.array([[0, -500, -1e30]], np.float32))
    assert found.tolist() == [[0, -500, np.float32(-1e30)]]


def test_the_likeliest_come_largest_first_and_equals_from_left_to_right() -> None:
    logits = np.array([[1, 3, 2, 3, 0], [0, 0, 0, 0, 0]], np.float32)
    assert likeliest(logits, 4).tolist() == [[1, 3, 2, 0], [0, 1, 2, 3]]
    assert likeliest(logits, 0).shape == (2, 0)
    assert likeliest(logits, 9).shape == (2, 5)
