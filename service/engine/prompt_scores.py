"""The scores of a prompt's ids, which say how likely they are, passed from the thread that reads it to the client."""

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, NamedTuple, Protocol, cast
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.rows import Scored, empty_scored

GATHERED = 1024  # ids; a shorter prompt's scores are delivered all at once, which is faster
MANY = 64  # likeliest ids of a step; those of a whole vocabulary take about as long as the step


class Slice(NamedTuple):
    """The scores of T ids of a prompt, from its id number `start` ≥ 1; arrays (T,) and (T, N).

    The first id of a prompt has no score, because no id precedes it.
    """

    start: int
    scored: Scored


OnScores = Callable[[int, Slice], None]
"""Takes the scores of the prompt with this index in order as they come, in the event loop's thread."""


def weakly(take: OnScores) -> OnScores:
    """Passes scores to a method of an answer while something else refers to the answer, which refers to the
    request."""
    method = WeakMethod(cast("MethodType", take))

    def call(index: int, part: Slice) -> None:
        if (there := method()) is not None:
            there(index, part)

    return call


class StateWatch(Protocol):
    """Looks at the state after each id of a prompt while it is read.

    columns: the numbers of the state that it looks at (U,), ascending.
    """

    columns: NDArray[np.int32]

    def take(self, start: int, states: Array) -> None:
        """Take the numbers (T, U) after T ids from number `start`, in order; in the thread that reads.

        It is part of the thread's turn, so it must not take longer than reading the ids, and must keep no view of the
        numbers.
        """


class PromptScores:
    """Which scores of a prompt are requested, and the scores that are kept.

    top: report ranks, entropies and this many of the likeliest ids; None reports log-probabilities alone.
    on_scores: takes the scores, which are then not kept here, so that scoring a prompt of any length needs only
    memory for its ids.
    watch: looks at the states. apart: whether the prompt is read apart from prompts that are only scored, because its
    steps take more time and memory.
    gathers: whether its scores are delivered all at once.
    kept: the scores of all ids but the first, (n - 1,) and (n - 1, N), complete once the prompt is read.
    """

    def __init__(
        self,
        length: int,
        vocabulary: int,
        top: int | None,
        on_scores: OnScores | None,
        watch: StateWatch | None = None,
    ) -> None:
        self.top = top
        self.on_scores = on_scores
        self.watch = watch
        self.gathers = on_scores is not None and top is None and length <= GATHERED
        self._length = length
        self._gathered: Array | None = None
        self._first = 0  # the first id that is scored
        self.apart = watch is not None or (top or 0) > MANY
        self.kept = None if on_scores else scores_at(empty_scored(1, length - 1, top, vocabulary), 0, top)

    def gather(self, start: int, logprobs: Array) -> Slice | None:
        """Take the scores of some ids; returns all scores once the last are there; in the thread that reads."""
        if self._gathered is None:
            self._first, self._gathered = start, np.empty(self._length - start, np.float32)
        end = start + len(logprobs)
        self._gathered[start - self._first : end - self._first] = logprobs
        return Slice(self._first, Scored(self._gathered)) if end == self._length else None

    def keep(self, slice_: Slice) -> None:
        """Store the scores of some ids; in the thread that reads. Other threads read them once the prompt is read."""
        assert self.kept is not None
        start = slice_.start - 1
        for kept, part in zip(self.kept, slice_.scored, strict=True):
            if kept is not None and part is not None:
                kept[start : start + len(part)] = part


def scores_at(scored: Scored, row: int, top: int | None) -> Scored:
    """The scores of one of several rows that were scored together, as far as it requests them."""
    if top is None:
        return Scored(scored.logprobs[row])
    assert scored.ranks is not None
    assert scored.entropies is not None
    assert scored.top_ids is not None
    assert scored.top_logprobs is not None
    tops = scored.top_ids[row, :, :top], scored.top_logprobs[row, :, :top]
    return Scored(scored.logprobs[row], scored.ranks[row], scored.entropies[row], *tops)


def scored_from(scored: Scored, start: int) -> Scored:
    """The scores of one prompt without those of its first ids."""
    parts: list[Any] = [part if part is None else part[start:] for part in scored]
    return Scored(*parts)


def watched(watches: Sequence[StateWatch | None]) -> NDArray[np.int32] | None:
    """The columns that any of the rows that are scored together requests, ascending; None if none does."""
    columns = [watch.columns for watch in watches if watch is not None]
    return np.unique(np.concatenate(columns)) if columns else None


def columns_of(states: Array, columns: NDArray[np.int32], own: NDArray[np.int32]) -> Array:
    """Some of the columns (T, U) that were traced; without a copy if these are all columns."""
    return states if len(own) == len(columns) else states[:, np.searchsorted(columns, own)]


def most_wanted(tops: list[int | None]) -> int | None:
    """The report that covers the requests of all rows that are scored together."""
    numbers = [top for top in tops if top is not None]
    return max(numbers) if numbers else None
