"""Follows the ids that a row draws, so that its state is known after any of them."""

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.rows import Rows
from model.decoding.state import RowState
from model.sampling.transitions import BEGINNING, Transitions, Walk
from model.text.text_stream import TextStream


class StateRecorder:
    """What one row's state will be, besides what its slot holds.

    A call may draw more ids than belong to the text; so the slot is kept as it was before each call, and what belongs
    to the text is read again at its end.

    beginning: the state that the row's first draw goes on from; its `network` is not used.
    ids: the id of each column of the logits (S,), ascending. walk: the row's way through what its text must match.
    """

    def __init__(self, beginning: RowState, ids: NDArray[np.int64], walk: Walk | None) -> None:
        self._beginning = beginning
        self._ids = ids
        self._last = beginning.last
        self._drawn = beginning.drawn.copy()
        self._transitions: Transitions | None = None
        self._walk: list[int] = []
        if walk is not None and not walk.stepwise:
            self._transitions, self._walk = walk.transitions, [walk.state, *walk.returns]
        self._written: list[int] | None = None
        if walk is not None and walk.stepwise:
            self._written = list(beginning.written)
        self._before: Array
        self.count = 0
        """Ids drawn for the text before the latest call."""

    def before_call(self, rows: Rows, slot: int) -> None:
        """Keep the slot as it is before a call draws."""
        self._before = np.array(rows.state[slot])

    def take(self, ids: NDArray[np.int32]) -> None:
        """Take what the call drew for the text."""
        if not len(ids):
            return
        columns = np.searchsorted(self._ids, ids)
        np.add.at(self._drawn, columns, 1)
        self.count += len(ids)
        self._last = int(ids[-1])
        if self._written is not None:
            self._written += columns.tolist()
        if self._transitions is not None:
            state, *returns = self._walk
            for column in columns.tolist():
                state = self._transitions.after(state, returns, column)
            self._walk = [state, *returns]

    def end(self, rows: Rows, slot: int, drawn: NDArray[np.int32], count: int) -> None:
        """Take the first `count` of what the latest call drew (steps,), with which the text ends; the slot then holds
        what it would if no more had been drawn."""
        if count < len(drawn):
            rows.state[slot] = self._before
            if count:
                rows.read([slot], np.array([[self._last, *drawn[: count - 1]]], np.int32))
        self.take(drawn[:count])

    def now(self, network: Array, stream: TextStream) -> RowState:
        """The state after what was taken so far, of which `stream` made text."""
        beginning = self._beginning
        return RowState(
            network=network,
            last=self._last,
            seed=beginning.seed,
            choice=beginning.choice,
            position=beginning.position + self.count,
            drawn=self._drawn,
            in_prompt=beginning.in_prompt,
            undecoded=stream.undecoded,
            held=stream.held,
            ends=stream.ends,
            pattern=beginning.pattern,
            walk=tuple(self._walk) or BEGINNING,
            written=tuple(self._written or ()),
        )
