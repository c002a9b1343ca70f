"""The sampler's draws: the stated distribution, filters and penalties worked by hand, and limits of its parameters."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling, Sampler, invert

DRAWS = 20_000


def logits_of(*shares: float) -> NDArray[np.float32]:
    """Logits whose softmax is these shares."""
    return np.log(np.array(shares, np.float32))


def draw(
    logits: NDArray[np.float32], draws: int = DRAWS, prompt: tuple[int, ...] = (), **parameters: Any
) -> NDArray[np.int64]:
    """Columns drawn from the same logits (S,) at as many positions of one text."""
    row = RowSampling(SamplingParameters(**parameters), np.arange(len(logits)), np.array(prompt, np.int64))
    return Sampler([row] * draws).sample(np.tile(logits, (draws, 1)), np.arange(draws))


def drawn(logits: NDArray[np.float32], **parameters: Any) -> list[int]:
    """Which columns are drawn at all, ascending."""
    return sorted(set(draw(logits, **parameters).tolist()))


def chi_square(columns: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    expected = shares * len(columns)
    counts = np.bincount(columns, minlength=len(shares))
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_columns_are_drawn_in_proportion_to_the_softmax(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 1.5, 40).astype(np.float32)
    shares = np.exp(logits.astype(np.float64) / temperature)
    statistic = chi_square(draw(logits, temperature=temperature, seed=11), shares / shares.sum())
    assert statistic < 72.1  # the 0.999 quantile of chi-square with 39 degrees of freedom


def test_a_distribution_that_is_not_the_one_drawn_from_is_told_apart() -> None:
    """The bound of the test above has teeth: a twentieth more of one column in two exceeds it."""
    logits = logits_of(*([0.025] * 40))
    shares = np.where(np.arange(40) % 2, 1.05, 0.95) / 40
    assert chi_square(draw(logits, seed=11), np.full(40, 0.025)) < 72.1
    assert chi_square(draw(logits, draws=100_000, seed=11), shares) > 72.1


def test_what_the_filters_keep_is_drawn_in_the_same_proportions() -> None:
    logits = logits_of(0.1, 0.4, 0.05, 0.25, 0.2)
    columns = draw(logits, top_k=3, seed=5)
    assert set(columns.tolist()) == {1, 3, 4}
    kept = np.searchsorted([1, 3, 4], columns)
    assert chi_square(kept, np.array([0.4, 0.25, 0.2]) / 0.85) < 13.8  # 2 degrees of freedom


def test_temperature_zero_takes_the_likeliest_always() -> None:
    logits = np.random.default_rng(1).normal(size=(500, 30)).astype(np.float32)
    for temperature in (0.0, 1e-5):
        row = RowSampling(SamplingParameters(temperature=temperature, seed=3), np.arange(30), np.zeros(0, np.int64))
        columns = Sampler([row] * 500).sample(logits, np.arange(500))
        assert columns.tolist() == logits.argmax(axis=1).tolist()


def test_temperature_zero_takes_the_first_of_equals() -> None:
    assert drawn(np.zeros(6, np.float32), temperature=0) == [0]


@pytest.mark.parametrize("k", [1, 2, 5, 7, 8, 100])
def test_top_k_leaves_exactly_k_columns_also_among_equals(k: int) -> None:
    ties = np.zeros(8, np.float32)
    assert drawn(ties, top_k=k) == list(range(min(k, 8)))
    two_levels = np.array([0, 1, 0, 1, 1, 0, 0, 0], np.float32)
    expected = [1, 3, 4, 0, 2, 5, 6, 7][:k]
    assert drawn(two_levels, top_k=k) == sorted(expected)


def test_top_k_takes_the_first_of_many_equals() -> None:
    wide = np.zeros(300, np.float32)
    wide[[250, 100]] = 1
    assert drawn(wide, top_k=6) == [0, 1, 2, 3, 100, 250]


@pytest.mark.parametrize(
    ("weights", "uniform", "column"),
    [
        ([1, 1], 0.0, 0),
        ([1, 1], 0.5, 1),
        ([0, 1, 1], 0.0, 1),
        ([1, 0, 1], 0.5, 2),
        ([1, 1, 0], 1 - 2**-53, 1),
        ([1e8, 1], 1 - 2**-53, 1),
        ([1e-30, 1, 0, 0], 1 - 2**-53, 1),
    ],
)
def test_a_share_of_the_weights_falls_into_one_column_and_never_an_empty_one(
    weights: list[float], uniform: float, column: int
) -> None:
    assert invert(np.array([weights], np.float32), np.array([uniform])).tolist() == [column]


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (1e-9, [1]),
        (0.39, [1]),
        (0.41, [1, 3]),
        (0.64, [1, 3]),
        (0.66, [1, 3, 4]),
        (0.86, [0, 1, 3, 4]),
        (0.96, [0, 1, 2, 3, 4]),
        (1.0, [0, 1, 2, 3, 4]),
    ],
)
def test_top_p_keeps_the_fewest_columns_that_hold_the_share(top_p: float, kept: list[int]) -> None:
    """Likeliest first 0.4, 0.25, 0.2, 0.1, 0.05 add up to 0.4, 0.65, 0.85, 0.95, 1."""
    assert drawn(logits_of(0.1, 0.4, 0.05, 0.25, 0.2), top_p=top_p) == kept


@pytest.mark.parametrize(
    ("min_p", "kept"), [(0.0, [0, 1, 2, 3]), (0.12, [0, 1, 2, 3]), (0.13, [0, 1, 3]), (0.51, [1, 3]), (1.0, [1])]
)
def test_min_p_drops_what_is_less_likely_than_its_share_of_the_likeliest(min_p: float, kept: list[int]) -> None:
    """Shares of the likeliest: 0.2/0.4 = 0.5, 1, 0.05/0.4 = 0.125, 0.35/0.4 = 0.875."""
    assert drawn(logits_of(0.2, 0.4, 0.05, 0.35), min_p=min_p) == kept


@pytest.mark.parametrize(
    ("typical_p", "kept"),
    [(1e-9, [1]), (0.24, [1]), (0.26, [1, 2]), (0.46, [1, 2, 3]), (0.84, [1, 2, 3]), (0.86, [0, 1, 2, 3])],
)
def test_typical_p_keeps_what_surprises_as_much_as_is_to_be_expected(typical_p: float, kept: list[int]) -> None:
    """The entropy of 0.4, 0.25, 0.2, 0.15 is 1.319; -ln p is 0.916, 1.386, 1.609, 1.897, so the distances are 0.403,
    0.067, 0.290, 0.578: the likeliest comes third."""
    assert drawn(logits_of(0.15, 0.25, 0.2, 0.4), typical_p=typical_p) == kept


def test_typical_p_comes_after_the_other_filters() -> None:
    """Of 0.4 and 0.25 as 0.615 and 0.385 the entropy is 0.666, and the distances are 0.181 and 0.289."""
    assert drawn(logits_of(0.15, 0.25, 0.2, 0.4), typical_p=0.3, top_k=2) == [3]
    assert drawn(logits_of(0.15, 0.25, 0.2, 0.4), typical_p=0.3, min_p=0.6) == [3]
    assert drawn(np.array([0, -math.inf, 0], np.float32), typical_p=0.9) == [0, 2]


def test_filters_narrow_one_another() -> None:
    logits = logits_of(0.1, 0.4, 0.05, 0.25, 0.2)
    assert drawn(logits, top_k=4, top_p=0.8) == [1, 3, 4]
    # of the three that top-k leaves, 0.4/0.85 = 0.47 and (0.4 + 0.25)/0.85 = 0.76
    assert drawn(logits, top_k=3, top_p=0.75) == [1, 3]
    assert drawn(logits, top_k=4, min_p=0.6) == [1, 3]


def test_a_higher_temperature_leaves_more_to_top_p() -> None:
    logits = logits_of(0.9, 0.09, 0.01)
    assert drawn(logits, top_p=0.85, temperature=1) == [0]
    assert drawn(logits, top_p=0.85, temperature=4) == [0, 1, 2]


def penalised(logits: list[float], prompt: tuple[int, ...], text: tuple[int, ...], **parameters: Any) -> list[float]:
    row = RowSampling(SamplingParameters(**parameters), np.arange(len(logits)), np.array(prompt, np.int64))
    for column in text:
        row.drawn[column] += 1
    return [float(value) for value in row.penalise(np.array(logits, np.float32))]


def test_repetition_penalty_weakens_characters_of_prompt_and_text_once() -> None:
    values = penalised([2.0, -2.0, 3.0, -3.0, 4.0], (0, 1, 1), (1, 2, 2), repetition_penalty=2.0)
    assert values == [1.0, -4.0, 1.5, -3.0, 4.0]


def test_presence_penalty_is_subtracted_once_from_characters_of_the_text_only() -> None:
    assert penalised([2.0, -2.0, 3.0], (0,), (1, 2, 2), presence_penalty=0.5) == [2.0, -2.5, 2.5]


def test_frequency_penalty_is_subtracted_once_per_occurrence_in_the_text() -> None:
    assert penalised([2.0, -2.0, 3.0], (0,), (1, 2, 2), frequency_penalty=0.5) == [2.0, -2.5, 2.0]


def test_penalties_add_up_after_the_repetition_penalty_was_applied() -> None:
    values = penalised([4.0], (), (0, 0, 0), repetition_penalty=2.0, presence_penalty=0.25, frequency_penalty=0.5)
    assert values == [4 / 2 - 0.25 - 3 * 0.5]


def test_a_negative_penalty_favours_what_the_text_has() -> None:
    assert penalised([0.0, 0.0], (), (1,), presence_penalty=-1.0, frequency_penalty=-1.0) == [0.0, 2.0]


def test_the_sampler_counts_what_it_draws_and_leaves_the_logits_alone() -> None:
    logits = np.array([[3.0, 2.0, 1.0]], np.float32)
    parameters = SamplingParameters(temperature=0, frequency_penalty=0.75)
    sampler = Sampler([RowSampling(parameters, np.arange(3), np.zeros(0, np.int64))])
    columns = [int(sampler.sample(logits, np.array([at]))[0]) for at in range(6)]
    # 3, 2, 1 → 2.25, 2, 1 → 1.5, 2, 1 → 1.5, 1.25, 1 → .75, 1.25, 1 → .75, .5, 1
    assert columns == [0, 0, 1, 0, 1, 2]
    assert logits.tolist() == [[3.0, 2.0, 1.0]]


@pytest.mark.parametrize("extra", [{}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.1}, {"repetition_penalty": 10.0}])
@pytest.mark.parametrize("temperature", [0.0, 1e-4, 1e-3, 1.0, 100.0])
def test_extreme_logits_neither_warn_nor_fail(temperature: float, extra: dict[str, Any]) -> None:
    rows = np.array(
        [
            [1e30, -1e30, 0, 1e30],
            [-1e30] * 4,
            [1e30] * 4,
            [0, 0, 0, 0],
            [-1e30, -1e30, -1e30, 5],
            [1e-40, -1e-40, 0, 1e-45],
        ],
        np.float32,
    )
    row = RowSampling(SamplingParameters(temperature=temperature, **extra), np.arange(4), np.array([0]))
    columns = Sampler([row] * len(rows)).sample(rows, np.arange(len(rows)))
    assert set(columns.tolist()) <= {0, 1, 2, 3}
    assert columns[0] in (0, 3)
    assert columns[4] == 3


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("temperature", 0.0, 100.0),
        ("top_k", 0, 2**31 - 1),
        ("top_p", 5e-324, 1.0),
        ("min_p", 0.0, 1.0),
        ("typical_p", 5e-324, 1.0),
        ("repetition_penalty", 0.01, 10.0),
        ("presence_penalty", -100.0, 100.0),
        ("frequency_penalty", -100.0, 100.0),
        ("seed", -(2**63), 2**64 - 1),
    ],
)
def test_each_parameter_has_a_range_and_is_refused_by_name_beyond_it(name: str, least: Any, most: Any) -> None:
    logits = np.random.default_rng(0).normal(size=5).astype(np.float32)
    for value in (least, most):
        draw(logits, draws=3, prompt=(1,), **{name: value})
    step = 1 if isinstance(least, int) else 1e-6
    below = 0.0 if name in ("top_p", "typical_p") else least - step
    beyond = [below, most + step] if name == "seed" else [below, most + step, math.inf, -math.inf, math.nan]
    for value in beyond:
        with pytest.raises(ParameterError, match=f"^{name} .+; choose .+") as caught:
            replace(SamplingParameters(), **{name: value})
        assert caught.value.parameter == name
