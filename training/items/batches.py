"""Windows of ids from a list of items: each item is a row, and a batch has rows of many lengths, longest first."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.text.frame import START, answer_starts, item_ends
from model.text.utf8_ids import Ids
from training.data.batches import UNRELEASED, Batches, Taught, Window
from training.data.prepared_corpus import release
from training.data.split import Split

POOL = 128  # steps' worth of long items that are sorted by length together
WHOLE = 2  # windows long an item may be and is still read at once
FULL_ROWS = 16  # of short items in a batch, and multiples
PADDING = -100  # a target that does not count, as PyTorch's cross_entropy has it


class ItemBatches:
    """The train part of a list as batches: an item a row, from its beginning to its separator.

    Every pass shuffles the items anew. A batch holds about `batch_size` × `sequence_length` ids, in rows of which the
    longest are first: `training/loop/parallel_step.py` reads rows of like length together, so that no kernel resets a
    state inside of a window and little is padded. All rows of like length would be padded even less, but every step
    would then learn that items end just there (0.08 bits on names). Items longer than two windows are rare or long
    enough for that: those are sorted by length, some thousand at a time, and read in windows of equal length, each
    from the state after the last; rows that have ended leave.

    ids: the train part (n,), items one after the other. separator: the ids that end each.
    seed: with the number of the pass, fixes the order. learn_after: the ids after which an item is learnt.
    """

    def __init__(
        self,
        ids: Ids,
        separator: tuple[int, ...],
        batch_size: int,
        sequence_length: int,
        seed: int,
        learn_after: tuple[int, ...] = (),
    ) -> None:
        self.ids, self.batch_size, self.sequence_length, self.seed = ids, batch_size, sequence_length, seed
        self._ends = item_ends(ids, separator)
        self._starts = np.concatenate([[0], self._ends[:-1]]).astype(np.int64)
        self._learnt = answer_starts(ids, self._starts, self._ends, learn_after) if learn_after else None
        self._short = WHOLE * sequence_length
        self._usual = self._usual_lengths()
        self._pass = self._batch = self._column = 0
        self._order: list[NDArray[np.int64]] | None = None
        self._unreleased = 0

    @property
    def ids_per_pass(self) -> int:
        """How many ids a pass reads: all."""
        return len(self.ids)

    def next(self) -> Window:
        """The next window; there is always one, pass after pass."""
        if self._order is None:
            self._order = self._batches()
        items = self._order[self._batch]
        starts, lengths = self._starts[items], self._lengths(items)
        column, width = self._column, self._width(int(lengths[0]))
        alive = int(np.count_nonzero(lengths > column))  # the longest are first
        columns = column + np.arange(min(width, int(lengths[0]) - column))
        counted = columns < lengths[:alive, None]
        places = starts[:alive, None] + np.where(counted, columns, 0)
        read = self.ids[places].astype(np.int64)
        learnt = counted if self._learnt is None else counted & (places >= self._learnt[items[:alive], None])
        targets = np.where(learnt, read, PADDING)
        before = self.ids[np.maximum(starts[:alive] + column - 1, 0)].astype(np.int64) if column else START
        inputs = np.empty_like(targets)
        inputs[:, 0] = before
        inputs[:, 1:] = np.where(counted, read, 0)[:, :-1]
        self._move(column + width, int(lengths[0]), targets.size)
        counts = counted.sum(axis=1)
        usual = self._usual if len(counts) == len(self._usual) and columns[-1] < self._short else counts
        of_learnt = None if self._learnt is None else learnt.sum(axis=1)
        return Window(inputs, targets, column == 0, counts, usual, self.batch_size, of_learnt)

    def _move(self, column: int, longest: int, read: int) -> None:
        self._unreleased += read
        if self._unreleased > UNRELEASED:
            release(self.ids)
            self._unreleased = 0
        self._column = column if column < longest else 0
        if self._column == 0:
            self._batch += 1
            assert self._order is not None
            if self._batch == len(self._order):
                self._pass, self._batch, self._order = self._pass + 1, 0, None

    def _width(self, longest: int) -> int:
        """The length of the windows in which a batch is read."""
        windows = 1 if longest <= WHOLE * self.sequence_length else -(-longest // self.sequence_length)
        return -(-longest // windows)

    def _batches(self) -> list[NDArray[np.int64]]:
        """The items of each batch of this pass, the longest first."""
        chance = np.random.default_rng([self.seed, self._pass])
        order = chance.permutation(len(self._ends))
        is_long = self._lengths(order) > self._short
        batches = [*self._mixed(order[~is_long]), *self._like_length(order[is_long])]
        return [batches[number] for number in chance.permutation(len(batches))]

    def _mixed(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Batches of short items, as the order has them; of as many rows each, as kernels are made for a shape."""
        rows = max(1, len(self._usual))
        for at in range(0, len(order), rows):
            items = order[at : at + rows]
            yield items[np.argsort(-self._lengths(items), kind="stable")]

    def _like_length(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Batches of long items of like length."""
        lengths = self._lengths(order)
        ids = self.batch_size * self.sequence_length
        pools = (np.cumsum(lengths) - lengths) // (POOL * ids)
        by_length = np.lexsort((-lengths, pools))
        order, lengths = order[by_length], lengths[by_length]
        at = 0
        for pool in np.append(np.flatnonzero(np.diff(pools[by_length])) + 1, len(order)).tolist():
            while at < pool:
                end = min(pool, at + max(1, round(ids / self._width(int(lengths[at])))))
                yield order[at:end]
                at = end

    def _usual_lengths(self) -> NDArray[np.int64]:
        """The lengths of a batch of short items, the longest first, as it would be without chance; (B,)."""
        lengths = self._ends - self._starts
        lengths = np.sort(lengths[lengths <= self._short])[::-1]
        if not len(lengths):
            return lengths
        rows = round(self.batch_size * self.sequence_length / float(lengths.mean()))
        if rows >= FULL_ROWS:  # a few rows more than kernels read together cost as much as that many more
            rows = round(rows / FULL_ROWS) * FULL_ROWS
        rows = max(1, min(len(lengths), rows))
        return lengths[(np.arange(rows) * 2 + 1) * len(lengths) // (2 * rows)]

    def _lengths(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._ends[items] - self._starts[items]

    def position(self) -> dict[str, Any]:
        """Where reading stands, as JSON values."""
        return {"pass": self._pass, "batch": self._batch, "column": self._column}

    def go_to(self, position: dict[str, Any]) -> None:
        """Continue from a position that was kept."""
        if position["pass"] != self._pass:
            self._order = None
        self._pass, self._batch, self._column = position["pass"], position["batch"], position["column"]


def batches_of(
    split: Split, batch_size: int, sequence_length: int, seed: int, jitter: float, taught: Taught | None = None
) -> Batches | ItemBatches:
    """The train part as batches, of items where it is a list of them, which has no teachers."""
    if split.separator:
        return ItemBatches(split.train, split.separator, batch_size, sequence_length, seed, split.learn_after)
    return Batches(split.train, batch_size, sequence_length, seed, jitter, taught)
