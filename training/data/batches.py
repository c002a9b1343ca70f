"""Windows of ids for truncated backpropagation through time: parallel sequences, read on from window to window."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.text.utf8_ids import Ids
from training.data.prepared_corpus import release

HALVED = 0.05  # of the windows are half as long where lengths vary
UNRELEASED = 1 << 20  # ids read before the pages of the corpus they are on are given back
SHORTEST = 4  # characters of a window whose length varies


class Taught(NamedTuple):
    """What teachers expect at places of a text: for each the likeliest ids, and how likely each of them is.

    ids: whole numbers (…, K). chances: float16 (…, K), a place's add up to 1. share: of the loss that is theirs.
    """

    ids: Ids
    chances: NDArray[np.float16]
    share: float

    def at(self, places: Any) -> "Taught":
        """The same of some places alone."""
        return self._replace(ids=self.ids[places], chances=self.chances[places])


class Window(NamedTuple):
    """One training step's characters.

    inputs, targets: int64 (B, T); the targets are the inputs one character on, -100 where a row has ended.
    fresh: whether the sequences begin at new positions, so that the carried state does not belong to them. Else they
        are the first rows of the window before.
    counts: targets of each row (B,) where rows may end, at least one of each, the longest first; None where all count.
    usual: about the same numbers, (B,), but equal for all windows of a kind: how rows are shared out follows from them,
        so that windows are read in shapes for which kernels have been made.
    full: rows of a full batch, where batches have other numbers of rows; None where all are full.
    learnt: targets of each row (B,) that are learnt, where some are only read and are -100, too; None where all are.
    taught: what teachers expect in place of each target, (B, T, K); None without any.
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    fresh: bool
    counts: NDArray[np.int64] | None = None
    usual: NDArray[np.int64] | None = None
    full: int | None = None
    learnt: NDArray[np.int64] | None = None
    taught: Taught | None = None

    @property
    def ids(self) -> int:
        """How many characters are read."""
        return self.targets.size if self.counts is None else int(self.counts.sum())

    @property
    def learnt_ids(self) -> int:
        """How many targets count in the loss."""
        return self.ids if self.learnt is None else int(self.learnt.sum())

    @property
    def length(self) -> float:
        """Characters a row of a full batch would have."""
        return self.inputs.shape[1] if self.full is None else self.ids / self.full


class Batches:
    """The train part as batches: B sequences side by side, each a contiguous stretch of the text.

    Every pass begins at another random position of the text and reads round to it again: the borders between sequences
    fall elsewhere each time, and no character is always the last.

    ids: the train part (n,), n > batch_size × sequence_length.
    batch_size: B, sequences read in parallel.
    sequence_length: T, characters per window, across which gradients flow.
    jitter: standard deviation of a window's length in characters, so that gradients are not always cut at the same
        positions; one window in twenty is then half as long (Merity et al. 2018, section 5). 0 = all alike.
    seed: fixes where the passes begin, and how long windows are.
    taught: what teachers expect in place of each id, (n, K).
    """

    def __init__(
        self,
        ids: Ids,
        batch_size: int,
        sequence_length: int,
        seed: int,
        jitter: float = 0.0,
        taught: Taught | None = None,
    ) -> None:
        self.ids, self.batch_size, self.sequence_length, self.jitter = ids, batch_size, sequence_length, jitter
        self.taught = taught
        self.width = len(ids) // batch_size
        self._random = np.random.default_rng(seed)
        self._shift, self._at = 0, self.width
        self._unreleased = 0

    @property
    def ids_per_pass(self) -> int:
        """How many ids a pass reads: all but what the last, unfilled window would have held."""
        return self.batch_size * (
            self.width if self.jitter else self.width // self.sequence_length * self.sequence_length
        )

    def next(self) -> Window:
        """The next window; there is always one, pass after pass."""
        length = self._length()
        if fresh := self._at + length > self.width:
            self._shift, self._at = int(self._random.integers(len(self.ids))), 0
        begin = np.arange(self.batch_size) * self.width + self._shift + self._at  # (B,)
        positions = begin[:, None] + np.arange(length + 1)  # (B, T + 1)
        characters = self.ids.take(positions, mode="wrap").astype(np.int64)
        self._at += length
        self._unreleased += positions.size
        if self._unreleased > UNRELEASED:
            release(self.ids)
            self._unreleased = 0
        taught = None if self.taught is None else self.taught.at(positions[:, 1:] % len(self.ids))
        return Window(characters[:, :-1], characters[:, 1:], fresh, taught=taught)

    def _length(self) -> int:
        if not self.jitter:
            return self.sequence_length
        middle = self.sequence_length / 2 if self._random.random() < HALVED else self.sequence_length
        return int(np.clip(round(self._random.normal(middle, self.jitter)), SHORTEST, self.width))

    def position(self) -> dict[str, Any]:
        """Where reading stands, as JSON values."""
        return {"shift": self._shift, "at": self._at, "random": self._random.bit_generator.state}

    def go_to(self, position: dict[str, Any]) -> None:
        """Continue from a position that was kept."""
        self._shift, self._at = position["shift"], position["at"]
        self._random.bit_generator.state = position["random"]
