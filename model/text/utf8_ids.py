"""The 256 ids that stand for UTF-8 bytes, and where among ids characters begin."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTES = 256  # ids 0 … 255 are the bytes of UTF-8, so that id and byte are the same number

Ids = NDArray[np.integer[Any]]


def begins_character(ids: Ids) -> NDArray[np.bool_]:
    """Whether each id begins a character, in the shape of `ids`: all do but the continuation bytes 0x80 … 0xBF."""
    return (ids < 0x80) | (ids >= 0xC0)


def count_characters(ids: Ids) -> int:
    """How many characters some ids spell."""
    blocks = (ids[start : start + (1 << 20)] for start in range(0, len(ids), 1 << 20))  # ids may be a map of gigabytes
    return sum(int(np.count_nonzero(begins_character(block))) for block in blocks)
