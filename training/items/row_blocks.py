"""Rows of a window that end at different places, cut into blocks of like length, so that little is padded."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

CALL = 150  # characters read in the time that one more block costs
FEWEST_ROWS = 16  # of a block: the kernels take as long for fewer
MOST_BORDERS = 24  # where blocks may begin: a long list of short rows need not be cut everywhere


def like_length(counts: NDArray[np.int64]) -> list[slice]:
    """The rows of a window in the blocks that are read soonest, from how many columns each row fills (B,).

    The longest are first. What a block costs is its rows times its longest, and a call (dynamic programming over the
    places where blocks may begin: 16 rows apart, or more).
    """
    apart = max(FEWEST_ROWS, -(-len(counts) // MOST_BORDERS))
    borders = [*range(0, max(1, len(counts) - apart + 1), apart), len(counts)]
    widths = counts[borders[:-1]].tolist()
    costs, begins = [0], [0]  # of the rows up to each border, and where their last block begins
    for end in range(1, len(borders)):
        each = [costs[at] + (borders[end] - borders[at]) * widths[at] + CALL for at in range(end)]
        costs.append(min(each))
        begins.append(each.index(costs[-1]))
    blocks, at = [], len(borders) - 1
    while at:
        blocks.append(slice(borders[begins[at]], borders[at]))
        at = begins[at]
    return blocks[::-1]


def id_parts(counts: NDArray[np.int64], threads: int) -> list[slice]:
    """The rows in contiguous parts of about as many ids, one a thread at most; none is empty."""
    threads = min(threads, len(counts))
    size = FEWEST_ROWS if len(counts) >= 2 * FEWEST_ROWS * threads else 1
    ids = np.cumsum(counts) - counts  # before each row
    wanted = np.searchsorted(ids, ids[-1] * np.arange(1, threads) / threads)
    borders = [0, *dict.fromkeys((np.round(wanted / size) * size).astype(int).tolist()), len(counts)]
    return [slice(begin, end) for begin, end in pairwise(borders) if begin < end]


def within(blocks: Sequence[slice], part: slice) -> list[slice]:
    """What of the blocks lies among some rows."""
    cut = [slice(max(rows.start, part.start), min(rows.stop, part.stop)) for rows in blocks]
    return [rows for rows in cut if rows.start < rows.stop]
