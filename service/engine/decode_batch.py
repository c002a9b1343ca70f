"""The rows that are decoded: arrays of their drawn ids until these become text, and which rows are due."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import Drawn
from model.decoding.state_recorder import StateRecorder
from model.sampling.transitions import CODES
from model.text.text_stream import FinishReason
from service.engine.output import Logprobs, Piece, join_logprobs
from service.engine.sequence import Sequence, SequenceGroup
from service.engine.turn_budget import MOST_STEPS, spacing
from service.process.time_shares import EVERYBODY

CAPACITY = 512  # ids of a row that may wait to become text
MOST_PARTS = 64  # waiting arrays of log-probabilities of a row, one for each call, until they are joined
NO_LIMIT = 1 << 60


class Event(NamedTuple):
    """The growth of a text."""

    row: Sequence
    piece: Piece


def alone(caller: Hashable) -> int:  # noqa: ARG001
    """The number of slots of a caller beside others if there are no others."""
    return 0


class DecodeBatch:
    """The ids that rows have drawn, in a slot for each row. Only rows that are due need work one by one.

    A row is due when its text ends, when its interval is over, and when its ids may begin a stop string. Then its ids
    are decoded to text; text that must not be delivered yet stays pending in the row.

    All rows draw in the next call, except those of callers who wait (`choose`).

    slots: the number of slots; vocabulary: the number of ids. crowd: the number of slots of a caller while others
    have texts; it sets the time between the caller's pieces, see `spacing`.
    """

    def __init__(self, slots: int, vocabulary: int, crowd: Callable[[Hashable], int] = alone) -> None:
        self._crowd = crowd
        self.rows: list[Sequence] = []
        self._stale = False  # whether the rows have changed since the values below were computed
        self._drawing: list[Sequence] = []  # the rows that draw in the next call
        self._slots: NDArray[np.int32] = np.zeros(0, np.int32)  # of the rows that draw, (B,)
        self.drawn_at = 0.0
        """When the rows that draw did so last, by the worker's clock; the mean if that differs between rows."""
        self._waiting: Set[Hashable] = EVERYBODY  # callers whose rows wait
        self._callers: Counter[Hashable] | None = None
        self._some: NDArray[np.bool_] | None = None  # which slots draw; None for all
        self._drew_at = np.zeros(slots)  # when rows that wait drew last
        self._largest_left = 0
        self._at: NDArray[np.intp] = np.zeros(0, np.intp)  # the same in numpy's index type
        self._by_slot: list[Sequence | None] = [None] * slots
        self._ids = np.zeros((slots, CAPACITY), np.int32)
        self._flat = self._ids.reshape(-1)
        self._begins = np.arange(slots, dtype=np.int64) * CAPACITY
        self._filled = np.zeros(slots, np.int64)  # ids that wait to become text
        self._counts = np.zeros(slots, np.int64)  # ids drawn
        self._ended = np.zeros(slots, np.int32)  # why constrained texts have ended; see `Drawn`
        self._not_drawn = 0  # steps of the last call in which rows drew nothing because their texts had ended
        self._limits = np.full(slots, NO_LIMIT)
        self._due = np.full(slots, math.inf)  # when each slot's next piece may be delivered
        self._starts = np.zeros((slots, vocabulary), np.bool_)  # ids that may begin a stop string
        self._holding = np.zeros(slots, np.bool_)  # rows whose text may be within a stop string
        self._columns = np.arange(MOST_STEPS)
        self._watched = self._watched_slots = np.zeros(0, np.intp)  # rows that have stop strings
        self._reporting: list[tuple[int, Sequence]] = []  # rows that report log-probabilities
        self._recorded: list[tuple[int, Sequence, StateRecorder]] = []
        self._starved: list[Sequence] = []  # rows for which there was no memory in the last `accept`

    def begin(self, row: Sequence) -> None:
        """Add a row that has drawn nothing."""
        slot, request, stop_starts = row.slot, row.group.request, row.group.tables.stop_starts
        self._by_slot[slot] = row
        self._filled[slot] = self._counts[slot] = self._ended[slot] = 0
        self._limits[slot] = request.max_tokens
        self._due[slot] = math.inf if request.interval is None else -math.inf
        self._holding[slot] = row.stream.holding or row.stream.stopped is not None
        if stop_starts is not None:
            self._starts[slot] = stop_starts
        self._drew_at[slot] = self.drawn_at
        self.rows.append(row)
        self._stale = True

    def choose(self, waiting: Set[Hashable]) -> None:
        """Make the rows of some callers wait, and all others draw."""
        if waiting != self._waiting:
            self._waiting = waiting
            self._drew_at[self._at] = self.drawn_at
            self._stale = True
            if self.drawing:
                self.drawn_at = float(self._drew_at[self._at].mean())

    @property
    def drawing(self) -> list[Sequence]:
        """The rows that draw in the next call."""
        self._arrange()
        return self._drawing

    @property
    def slots(self) -> NDArray[np.int32]:
        """The slots of the rows that draw (B,)."""
        self._arrange()
        return self._slots

    @property
    def largest_left(self) -> int:
        """The most ids that a row that draws still has to draw."""
        self._arrange()
        return self._largest_left

    @property
    def recorded(self) -> list[tuple[int, Sequence, StateRecorder]]:
        """The slots of rows whose states are requested, and their recorders."""
        self._arrange()
        return self._recorded

    @property
    def callers(self) -> Counter[Hashable]:
        """The number of rows that draw, by caller."""
        self._arrange()
        if self._callers is None:
            self._callers = Counter(row.caller for row in self.drawing)
        return self._callers

    def end(self, rows: list[Sequence]) -> None:
        """Release rows; rows that are not in the batch are ignored."""
        leaving = [row for row in rows if row.slot >= 0 and self._by_slot[row.slot] is row]
        if not leaving:
            return
        for row in leaving:
            row.end()
            self._by_slot[row.slot] = None
            self._filled[row.slot] = self._counts[row.slot] = self._ended[row.slot] = 0
            self._limits[row.slot] = NO_LIMIT
            self._due[row.slot] = math.inf
        gone = set(leaving)
        self.rows = [row for row in self.rows if row not in gone]
        self._stale = True
        if not self.rows:
            self._arrange()  # so that nothing of the last rows is kept

    @property
    def most_steps(self) -> int:
        """The most ids of the next call: a row whose state is requested draws none after its last."""
        left = (row.group.request.max_tokens - recorder.count for _, row, recorder in self.recorded)
        return min(MOST_STEPS, *left)

    def end_starved(self) -> list[SequenceGroup]:
        """Release the rows of requests for which there was no memory in the last `accept`; other rows keep their
        ids."""
        groups = list({row.group: None for row in self._starved})
        self.end([row for row in self.rows if row.group in groups])
        return groups

    def beyond(self, events: list[Event]) -> int:
        """Ids that the last call drew, or skipped, after the ends of texts."""
        ended = ((row.slot, piece) for row, piece in events if piece.finish_reason is not None)
        return self._not_drawn + sum(int(self._counts[slot]) - piece.tokens for slot, piece in ended)

    def accept(self, drawn: Drawn, now: float) -> list[Event]:
        """Take the ids that rows have drawn; returns the pieces that are due. A row's last piece has a finish
        reason."""
        steps = drawn.ids.shape[1]
        filled = self._filled[self._at]
        begins = self._begins[self._at] + filled
        self._flat[begins[:, None] + self._columns[:steps]] = drawn.ids
        counts: Any = steps if drawn.counts is None else drawn.counts
        self._filled[self._at] = filled + counts
        self._counts[self._at] += counts
        self._largest_left -= steps
        self._starved = []
        for at, reporting in self._reporting:
            try:
                _report(reporting, _logprobs(drawn, at, reporting))
            except MemoryError:
                self._starved.append(reporting)
        hot = (self._counts >= self._limits) | (self._due <= now) | (self._filled > CAPACITY - MOST_STEPS)
        self._not_drawn = 0
        if drawn.ended is not None:
            self._not_drawn = int((steps - counts).sum())
            self._ended[self._at] = drawn.ended
            hot |= self._ended > 0
        if len(self._watched):
            begun = self._starts[self._watched_slots[:, None], drawn.ids[self._watched]].any(axis=1)
            hot[self._watched_slots] |= begun | self._holding[self._watched_slots]
        if self._some is not None:
            hot &= self._some
        events: list[Event] = []
        for slot in hot.nonzero()[0].tolist():
            row = self._by_slot[slot]
            if row is None or row in self._starved:
                continue
            try:
                piece = self._piece(row, slot, now)
            except MemoryError:
                self._starved.append(row)
                continue
            if piece is not None:
                events.append(Event(row, piece))
        return events

    def _piece(self, row: Sequence, slot: int, now: float) -> Piece | None:
        """Decode a row's waiting ids to text; returns the piece that may be delivered now, if any."""
        count = int(self._counts[slot])
        beyond = max(0, count - row.group.request.max_tokens)
        ids = self._ids[slot, : int(self._filled[slot]) - beyond].tolist()
        self._filled[slot] = 0
        if text := row.stream.feed(ids):
            row.pending.append(text)
        if row.stream.stopped is not None:
            return self._hand_over(row, "stop", row.stream.taken - row.begun, row.stream.stop_reason)
        if self._ended[slot]:
            row.pending.append(row.stream.flush())
            return self._hand_over(row, "stop" if self._ended[slot] == CODES["stop"] else "length", count)
        if count >= row.group.request.max_tokens:
            if row.recorder is None:
                row.pending.append(row.stream.flush())
            return self._hand_over(row, "length", row.group.request.max_tokens)
        self._holding[slot] = row.stream.holding
        if self._due[slot] > now or not row.pending:
            return None
        self._due[slot] = now + max(row.group.request.interval or 0, spacing(self._crowd(row.caller), len(self.rows)))
        return self._hand_over(row, None, count)

    def _hand_over(self, row: Sequence, reason: FinishReason | None, count: int, stop: str | None = None) -> Piece:
        text, row.pending = "".join(row.pending), []
        logprobs = None
        if row.logprobs:
            logprobs = join_logprobs(row.logprobs).part(0, count - row.emitted)
        row.emitted, row.logprobs, row.joined = count, [], 0
        return Piece(text, reason, count, stop, logprobs)

    def _arrange(self) -> None:
        """Update all that depends on the rows and on which of them draw, if these have changed: once for all rows
        that begin or end between two calls."""
        if not self._stale:
            return
        self._stale = False
        self._drawing, self._some, self._callers = self.rows, None, None
        if self._waiting:
            self._drawing = [row for row in self.rows if row.caller not in self._waiting]
        self._slots = np.array([row.slot for row in self._drawing], np.int32)
        self._at = self._slots.astype(np.intp)
        left = self._limits[self._at] - self._counts[self._at]
        self._largest_left = int(left.max()) if len(left) else 0
        if len(self._drawing) < len(self.rows):
            self._some = np.zeros(len(self._by_slot), np.bool_)
            self._some[self._at] = True
        self._watched = np.flatnonzero([row.group.tables.stop_starts is not None for row in self._drawing])
        self._watched_slots = self._at[self._watched]
        self._recorded = [(at, row, row.recorder) for at, row in enumerate(self._drawing) if row.recorder is not None]
        self._reporting = [(at, row) for at, row in enumerate(self._drawing) if row.sampling.logprobs is not None]


def _report(row: Sequence, part: Logprobs) -> None:
    """Keep a row's log-probabilities of one call until they are delivered; many such parts are joined, each once."""
    row.logprobs.append(part)
    if len(row.logprobs) - row.joined == MOST_PARTS:
        row.logprobs[row.joined :] = [join_logprobs(row.logprobs[row.joined :])]
        row.joined += 1


def _logprobs(drawn: Drawn, at: int, row: Sequence) -> Logprobs:
    """The log-probabilities of one row, in arrays of its own."""
    most, count = row.sampling.logprobs, drawn.ids.shape[1] if drawn.counts is None else int(drawn.counts[at])
    assert drawn.logprobs is not None
    assert drawn.top_ids is not None
    assert drawn.top_logprobs is not None
    return Logprobs(
        drawn.ids[at, :count].copy(),
        drawn.logprobs[at, :count].copy(),
        drawn.top_ids[at, :count, :most].copy(),
        drawn.top_logprobs[at, :count, :most].copy(),
    )
