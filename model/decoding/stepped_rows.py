"""Rows of a running batch in numpy, one step at a time: the reference for the compiled kernel."""

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.rows import Drawn, Scored, Slots, Step, empty_drawn, empty_scored
from model.sampling.probabilities import entropy, likeliest, log_probabilities, weights_of
from model.sampling.sampler import RowSampling, Sampler
from model.sampling.transitions import CODES


class SteppedRows:
    """Rows on top of a step and the sampler in numpy, a step at a time; what any faster `Rows` must equal.

    ids: the id of each column of logits (S,). state: the initial states (slots, floats), the rows' from now on.
    """

    def __init__(self, step: Step, ids: NDArray[np.int64], state: Array) -> None:
        self.state = state
        self._step, self._ids = step, ids.astype(np.int32)
        self._sampling: dict[int, RowSampling] = {}
        self._last = np.zeros(len(state), np.int32)
        self._positions = np.zeros(len(state), np.int64)

    def set(self, slot: int, sampling: RowSampling, last_id: int) -> None:
        """See `Rows.set`."""
        self._sampling[slot] = sampling
        self._last[slot] = last_id
        self._positions[slot] = sampling.position

    def read(self, slots: Slots, ids: NDArray[np.int32]) -> None:
        """See `Rows.read`."""
        state = self.state[slots]
        for at in range(ids.shape[1]):
            self._step.advance(ids[:, at], state)
        self.state[slots] = state

    def draw(self, slots: Slots, steps: int) -> Drawn:
        """See `Rows.draw`."""
        samplings = [self._sampling[int(slot)] for slot in slots]
        drawn = empty_drawn(samplings, steps)
        going = np.flatnonzero([row.walk is None or row.walk.ended is None for row in samplings])
        at = 0
        while at < steps and len(going):
            at, going = self._draw_until_one_ends(np.array(slots)[going], samplings, drawn, at, going)
        if drawn.ended is not None:
            drawn.ended[:] = [0 if row.walk is None else CODES[row.walk.ended] for row in samplings]
        return drawn

    def _draw_until_one_ends(
        self, slots: NDArray[np.integer], samplings: list[RowSampling], drawn: Drawn, at: int, going: NDArray[np.intp]
    ) -> tuple[int, NDArray[np.intp]]:
        """Draw from step `at` on for the rows `going`; the next step, and the rows that go on in it."""
        rows = [samplings[row] for row in going]
        sampler, state = Sampler(rows), self.state[slots]
        kept = np.ones(len(rows), np.bool_)
        while at < drawn.ids.shape[1] and all(row.walk is None or row.walk.ended is None for row in rows):
            self._step.advance(self._last[slots], state)
            logits = self._step.logits(state)
            columns = sampler.sample(logits, self._positions[slots])
            kept = np.array([row.walk is None or row.walk.take(int(c)) for row, c in zip(rows, columns, strict=True)])
            drawn.ids[going[kept], at] = self._last[slots[kept]] = self._ids[columns[kept]]
            self._positions[slots] += 1
            if drawn.logprobs is not None:
                self._report(drawn, at, going, logits, columns)
            if drawn.counts is not None:
                drawn.counts[going] += kept
            at += 1
        self.state[slots] = state
        return at, going[[row.walk is None or row.walk.ended is None for row in rows]]

    def score(
        self,
        slots: Slots,
        ids: NDArray[np.int32],
        following: NDArray[np.int32],
        top: int | None = None,
        columns: NDArray[np.int32] | None = None,
        weights: bool = False,
    ) -> Scored:
        """See `Rows.score`."""
        state = self.state[slots]
        scored, traced = None, None if columns is None else len(columns)
        for at in range(ids.shape[1]):
            self._step.advance(ids[:, at], state)
            logits = self._step.every_logits(state)
            scored = scored or empty_scored(len(ids), ids.shape[1], top, logits.shape[1], traced, weights=weights)
            _judge(scored, at, logits, following[:, at])
            if scored.states is not None:
                scored.states[:, at] = np.array(state)[:, columns]
        self.state[slots] = state
        return scored or empty_scored(len(ids), 0, top, 0, traced, weights=weights)

    def _report(self, drawn: Drawn, at: int, rows: NDArray[np.intp], logits: Array, columns: NDArray[np.intp]) -> None:
        assert drawn.logprobs is not None
        assert drawn.top_ids is not None
        assert drawn.top_logprobs is not None
        logprobs = log_probabilities(logits)
        drawn.logprobs[rows, at] = np.take_along_axis(logprobs, columns[:, None], axis=1)[:, 0]
        top = likeliest(logits, drawn.top_ids.shape[2])
        drawn.top_ids[rows, at] = self._ids[top]
        drawn.top_logprobs[rows, at] = np.take_along_axis(logprobs, top, axis=1)


def _judge(scored: Scored, at: int, logits: Array, ids: NDArray[np.int32]) -> None:
    """Enter how likely ids (B,) were by logits (B, V)."""
    rows = np.arange(len(ids))
    own = logits[rows, ids][:, None]
    logprobs = log_probabilities(logits)
    scored.logprobs[:, at] = logprobs[rows, ids]
    if scored.weights is not None and scored.wholes is not None:
        scored.weights[:, at], scored.wholes[:, at] = weights_of(logits)
    if scored.ranks is None or scored.entropies is None or scored.top_ids is None or scored.top_logprobs is None:
        return
    before = (logits > own) | ((logits == own) & (np.arange(logits.shape[1]) < ids[:, None]))
    scored.ranks[:, at] = before.sum(axis=1)
    scored.entropies[:, at] = entropy(logits)
    top = likeliest(logits, scored.top_ids.shape[2])
    scored.top_ids[:, at] = top
    scored.top_logprobs[:, at] = np.take_along_axis(logprobs, top, axis=1)
