"""A text drawn with the online memory: what stood before, in it or in its prompt, is likelier again."""

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.rows import AnyDecoder, Rows, Slots
from model.decoding.stepped_rows import SteppedRows
from model.online_memory.memory import OnlineMemory
from model.online_memory.scoring import SLICE


class RememberingStep:
    """The step of one row, whose logits are ln p as the memory makes it of the network's distribution.

    rows: of the network, one slot. memory: of the text; it learns each id when the next one is read after it.
    ids: the id of each column of the logits (S,).
    """

    def __init__(self, rows: Rows, memory: OnlineMemory, ids: NDArray[np.int64]) -> None:
        self._rows, self._memory, self._ids = rows, memory, ids
        self._last = np.zeros(0, np.int32)  # the last id, and the network's distribution after it
        self._weights: Array = np.zeros((0, 0), np.float32)
        self._wholes = np.zeros(0)

    def advance(self, ids: NDArray[np.int32], state: Array) -> None:
        """See `Step.advance`; one row."""
        self.read(ids, state)

    def read(self, ids: NDArray[np.int32], state: Array) -> None:
        """Read ids (T,) into the state (1, floats), in place."""
        for at in range(0, len(ids), SLICE):
            some = np.ascontiguousarray(ids[at : at + SLICE], np.int32)
            self._rows.state[0] = state[0]
            scored = self._rows.score([0], some[None], some[None], weights=True)
            state[0] = self._rows.state[0]
            assert scored.weights is not None
            assert scored.wholes is not None
            weights, wholes = scored.weights[0], scored.wholes[0]
            self._memory.score(self._last, some[: len(self._last)], self._weights, self._wholes)
            self._memory.score(some[:-1], some[1:], weights[:-1], wholes[:-1])
            self._last, self._weights, self._wholes = some[-1:], weights[-1:].copy(), wholes[-1:].copy()

    def every_logits(self, state: Array) -> Array:  # noqa: ARG002
        """ln p of every id (1, V)."""
        return self._memory.expect(int(self._last[0]), self._weights[0], float(self._wholes[0]))[None]

    def logits(self, state: Array) -> Array:
        """ln p of the ids that may be drawn (1, S)."""
        every: Array = self.every_logits(state)[:, self._ids]
        return every


class RememberingRows(SteppedRows):
    """One slot that draws with a memory; it has the text alone, from its beginning."""

    _step: RememberingStep

    def __init__(self, decoder: AnyDecoder, memory: OnlineMemory) -> None:
        rows = decoder.rows(1)
        super().__init__(RememberingStep(rows, memory, decoder.ids), decoder.ids, rows.state.copy())

    def read(self, slots: Slots, ids: NDArray[np.int32]) -> None:
        """See `Rows.read`; many ids at a time."""
        state = self.state[slots]
        self._step.read(ids[0], state)
        self.state[slots] = state
