"""The sampler's promise: a row draws the same alone or in a crowd, its numbers a pure function of where they stand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.sampling.parameters import SamplingParameters
from model.sampling.random_numbers import uniform
from model.sampling.sampler import RowSampling, Sampler

COLUMNS = 23
SEEDS = st.integers(-(2**63), 2**64 - 1)
PARAMETERS = st.builds(
    SamplingParameters,
    temperature=st.sampled_from([0.0, 1e-3, 0.3, 0.8, 1.0, 1.7]),
    top_k=st.sampled_from([0, 0, 1, 4, 50]),
    top_p=st.sampled_from([1.0, 1.0, 0.2, 0.9]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.9]),
    typical_p=st.sampled_from([1.0, 1.0, 0.3, 0.95]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.3, 0.5]),
    presence_penalty=st.sampled_from([0.0, 0.0, 0.7]),
    frequency_penalty=st.sampled_from([0.0, 0.0, -0.4, 0.2]),
    seed=SEEDS,
)
ROWS = st.lists(st.tuples(PARAMETERS, st.integers(0, 9), st.integers(0, 2**40)), min_size=1, max_size=9)


def scenes(rows: int, steps: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 2, (steps, rows, COLUMNS)).astype(np.float32)


def row_of(parameters: SamplingParameters, choice: int) -> RowSampling:
    return RowSampling(parameters, np.arange(100, 100 + COLUMNS), np.array([101, 105]), choice)


@settings(max_examples=150)
@given(ROWS, st.integers(0, 2**32))
def test_a_row_draws_the_same_alone_and_among_rows_of_other_parameters(
    rows: list[tuple[SamplingParameters, int, int]], seed: int
) -> None:
    steps = 6
    logits = scenes(len(rows), steps, seed)
    together = Sampler([row_of(parameters, choice) for parameters, choice, _ in rows])
    firsts = np.array([first for _, _, first in rows])
    crowd = np.array([together.sample(logits[at], firsts + at) for at in range(steps)])
    for number, (parameters, choice, first) in enumerate(rows):
        alone = Sampler([row_of(parameters, choice)])
        for at in range(steps):
            column = alone.sample(logits[at, number : number + 1], np.array([first + at]))
            assert column[0] == crowd[at, number]


@pytest.mark.parametrize("columns", [1, 2, 7, 8, 15, 16, 17, 33, 100, 257, 5_000])
def test_a_row_of_any_width_draws_the_same_at_any_place_in_a_crowd(columns: int) -> None:
    """Rows of odd widths begin at every alignment, where a vectorised exponential might round another way."""
    logits = np.random.default_rng(columns).normal(0, 3, (37, columns)).astype(np.float32)
    ids, positions = np.arange(columns), np.arange(37)
    parameters = [SamplingParameters(seed=at, temperature=0.9, top_p=0.95 if at % 2 else 1.0) for at in range(37)]
    rows = [RowSampling(one, ids, ids[:0]) for one in parameters]
    crowd = Sampler(rows).sample(logits, positions)
    for at in range(37):
        assert Sampler([rows[at]]).sample(logits[at : at + 1], positions[at : at + 1])[0] == crowd[at]


def test_a_row_may_change_its_neighbours_while_it_draws() -> None:
    parameters = SamplingParameters(seed=4, frequency_penalty=0.3, repetition_penalty=1.2)
    logits = scenes(3, 20, 0)
    alone, moving = row_of(parameters, 0), row_of(parameters, 0)
    others = [row_of(SamplingParameters(seed=seed, top_k=3), 1) for seed in (8, 9)]
    sampler = Sampler([alone])
    for at in range(20):
        expected = sampler.sample(logits[at, :1], np.array([at]))[0]
        crowd = [others[0], moving, others[1]] if at % 2 else [moving]
        place = crowd.index(moving)
        order = [1, 0, 2] if at % 2 else [0]
        assert Sampler(crowd).sample(logits[at, order], np.full(len(crowd), at))[place] == expected


def numbers(seed: int, choice: int, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    seeds = np.full(len(positions), seed % 2**64, np.uint64)
    return uniform(seeds, np.full(len(positions), choice, np.uint64), positions)


def test_the_uniform_numbers_are_the_ones_they_always_were() -> None:
    """A change of these changes every text ever drawn from a seed."""
    pinned = {
        (0, 0, 0): 0.13870941014555427,
        (0, 0, 1): 0.18436667429957676,
        (0, 1, 0): 0.2691303195904541,
        (1, 0, 0): 0.6935121390102292,
        (2**64 - 1, 3, 10**6): 0.024381518095679233,
    }
    for (seed, choice, position), number in pinned.items():
        assert float(numbers(seed, choice, np.array([position]))[0]) == number


@settings(max_examples=50)
@given(SEEDS, st.integers(0, 2**31), st.integers(0, 2**62))
def test_uniform_numbers_are_pure_and_lie_from_zero_to_below_one(seed: int, choice: int, position: int) -> None:
    positions = position + np.arange(64)
    once = numbers(seed, choice, positions)
    assert ((once >= 0) & (once < 1)).all()
    assert len(set(once.tolist())) == 64
    assert once.tobytes() == numbers(seed, choice, positions).tobytes()
    assert once[::-1].tobytes() == numbers(seed, choice, positions[::-1]).tobytes()
    assert float(numbers(seed, choice, positions[5:6])[0]) == once[5]


def test_a_negative_seed_is_the_same_number_of_64_bits() -> None:
    positions = np.arange(5)
    assert numbers(-1, 0, positions).tolist() == numbers(2**64 - 1, 0, positions).tolist()


@pytest.mark.parametrize("along", ["seed", "choice", "position"])
def test_neighbouring_numbers_are_not_correlated_along_any_coordinate(along: str) -> None:
    count = 50_000
    steps = np.arange(count)
    zeros = np.zeros(count, np.uint64)
    place = steps.astype(np.uint64)
    drawn = {
        "seed": uniform(place, zeros, np.zeros(count, np.int64)),
        "choice": uniform(zeros, place, np.zeros(count, np.int64)),
        "position": uniform(zeros, zeros, steps),
    }[along]
    assert abs(drawn.mean() - 0.5) < 4 / np.sqrt(12 * count)
    for lag in (1, 2, 3, 64, 256):
        correlation = np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(count)
    counts = np.histogram(drawn, bins=100, range=(0, 1))[0]
    assert ((counts - count / 100) ** 2 / (count / 100)).sum() < 149  # 0.999 quantile, 99 degrees of freedom


def test_seeds_choices_and_positions_are_not_interchangeable() -> None:
    places = [(a, b, c) for a in range(12) for b in range(12) for c in range(12)]
    found = {float(numbers(seed, choice, np.array([position]))[0]) for seed, choice, position in places}
    assert len(found) == len(places)
