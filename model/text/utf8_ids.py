"""The 256 ids that stand for UTF-8 bytes, and characters counted among ids."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTES = 256  # ids 0 … 255 are the bytes of UTF-8, so that id and byte are the same number

Ids = NDArray[np.integer[Any]]


def count_characters(ids: Ids) -> int:
    """How many characters some ids spell: all but the continuation bytes 0x80 … 0xBF of UTF-8."""
    blocks = (ids[start : start + (1 << 20)] for start in range(0, len(ids), 1 << 20))  # ids may be a map of gigabytes
    return sum(int(np.count_nonzero((block < 0x80) | (block >= 0xC0))) for block in blocks)
