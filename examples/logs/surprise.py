"""Three figures of how much a line surprises, the same for every model that gives each character a probability."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

BITS, PER_CHARACTER, HIGHEST = "bits", "bits per character", "highest character"

Scores = Mapping[str, NDArray[np.float64]]
"""The figures by name, each of every line; the larger, the odder."""


def figures(bits: NDArray[np.float64], per_character: NDArray[np.float64], highest: NDArray[np.float64]) -> Scores:
    """Figures of lines with these bits, bits per character and bits of their most surprising character."""
    return {BITS: bits, PER_CHARACTER: per_character, HIGHEST: highest}


def of_characters(lines: Sequence[NDArray[np.float64]]) -> Scores:
    """Figures of lines whose characters, the end among them, have these bits."""
    return figures(
        np.array([bits.sum() for bits in lines]),
        np.array([bits.mean() for bits in lines]),
        np.array([bits.max() for bits in lines]),
    )
