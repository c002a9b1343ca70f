"""Windows of characters for truncated backpropagation through time: parallel lanes, read on from window to window."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.tokenizer import Ids


class Window(NamedTuple):
    """One training step's characters.

    inputs, targets: int64 (B, T); the targets are the inputs one character on.
    fresh: whether the lanes were put to new places, so that the carried state no longer belongs to them.
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    fresh: bool


class Lanes:
    """The train part as B lanes side by side, each a contiguous stretch of the text.

    Every pass begins at another random place of the text, which it then reads round to where it began: borders
    between lanes fall elsewhere each time, and no character is always last.

    ids: the train part (n,), n > lanes × length.
    lanes: B, sequences read in parallel.
    length: T, characters per window, across which gradients flow.
    seed: fixes where the passes begin.
    """

    def __init__(self, ids: Ids, lanes: int, length: int, seed: int) -> None:
        self.ids, self.lanes, self.length = ids, lanes, length
        self.windows_per_pass = len(ids) // lanes // length
        self._random = np.random.default_rng(seed)

    def windows(self) -> Iterator[Window]:
        """Windows without end, pass after pass."""
        starts = np.arange(self.lanes) * (len(self.ids) // self.lanes)  # (B,)
        while True:
            shift = int(self._random.integers(len(self.ids)))
            for number in range(self.windows_per_pass):
                begin = starts + shift + number * self.length
                places = begin[:, None] + np.arange(self.length + 1)  # (B, T + 1)
                characters = self.ids.take(places, mode="wrap").astype(np.int64)
                yield Window(characters[:, :-1], characters[:, 1:], fresh=number == 0)
