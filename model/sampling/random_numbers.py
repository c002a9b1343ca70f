"""Random numbers as a pure function of seed, choice and position."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MASK = 2**64 - 1  # of the numbers here: they are of 64 bits


def uniform(
    seeds: NDArray[np.uint64], choices: NDArray[np.uint64], positions: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), a pure function of (seed, choice, position), by element.

    Each coordinate is folded in with the finaliser of SplitMix64 (Steele, Lea & Flood 2014), a bijection of
    64 bits, so two positions of one text never share a number's source.
    """
    mixed = _mix(_source(seeds, choices) ^ positions.astype(np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def source(seed: int, choice: int) -> int:
    """What the numbers of one text are made from: its seed and choice, mixed."""
    return _mix_one(_mix_one(seed % 2**64) ^ choice)


def _source(seeds: NDArray[np.uint64], choices: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return _mix(_mix(seeds) ^ choices)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mix_one(x: int) -> int:
    """The same of one number, some ten times as fast."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)
