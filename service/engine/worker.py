"""One thread's share of the work: rows in slots, and the turns in which they read and draw."""

import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import AnyDecoder
from service.engine.counters import WorkerCounters
from service.engine.decode_batch import DecodeBatch, Event
from service.engine.output import Piece
from service.engine.prefix_cache import PrefixCache
from service.engine.prompt_scores import Slice, most_wanted, scores_at
from service.engine.scheduler import Changes
from service.engine.sequence import Generation, GenerationRequest
from service.engine.turn_budget import MOST_READERS, MOST_SCORERS, Cost, draw_steps, read_seconds, read_slice

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Turn:
    """What came of one turn.

    events: texts that have grown or ended. scored: scores of slices of prompts, for requests that ask for them.
    read: requests whose prompt is read and whose other texts may begin.
    failed: requests that took part in a call that raised an exception.
    """

    events: list[Event] = field(default_factory=list)
    scored: list[tuple[GenerationRequest, Slice]] = field(default_factory=list)
    read: list[GenerationRequest] = field(default_factory=list)
    failed: list[GenerationRequest] = field(default_factory=list)


class Worker:
    """Reads prompts and draws text in `slots` slots of its own; for one thread.

    clock: seconds that never go back. counters: of what is done.
    """

    def __init__(
        self,
        decoder: AnyDecoder,
        slots: int,
        cache: PrefixCache,
        clock: Callable[[], float],
        counters: WorkerCounters | None = None,
    ) -> None:
        self._decoder = decoder
        self._slots = slots
        self._cache = cache
        self._clock = clock
        self._counters = counters or WorkerCounters()
        self._rows = decoder.rows(slots)
        self._reading: list[GenerationRequest] = []
        self._scoring: list[GenerationRequest] = []  # those that read and are told how likely it is
        self._drawing = DecodeBatch(slots, decoder.config.vocabulary)
        self._begun: list[float] = []  # arrivals of the requests of rows that are to draw for the first time
        self._read_cost = Cost()
        self._score_cost = Cost()
        self._draw_cost = Cost()

    @property
    def busy(self) -> bool:
        """Whether there is anything to do in a turn."""
        return bool(self._reading or self._scoring or self._drawing.rows)

    def turn(self, changes: Changes[Generation]) -> Turn:
        """Let rows go and come, read a slice of the prompts, and draw some ids for every row whose prompt is read."""
        turn = Turn()
        if changes.leaving:
            leaving = {row.request for row in changes.leaving if row.choice == 0}
            self._forget(leaving)
            self._drawing.end(changes.leaving)
        for row in changes.joining:
            try:
                self._join(row, turn)
            except Exception:
                self._fail([row.request], turn)
        if self._reading or self._scoring:
            self._read(turn)
        if self._drawing.rows:
            self._draw(turn)
        return turn

    def _join(self, row: Generation, turn: Turn) -> None:
        """Put a row in its slot: with the state after its prompt if another has read it, or to read what is left."""
        request = row.request
        if row.choice:
            assert request.state is not None
            self._rows.state[row.slot] = request.state
            self._begin(row)
            return
        self._counters.queued.observe(self._clock() - request.submitted)
        hit = self._cache.find(request.prefixes) if request.prefixes is not None else None
        if request.scoring is not None:
            request.prefixes = None  # a prompt that is scored may find its beginning, and leaves nothing to be found
        self._rows.state[row.slot] = 0 if hit is None else hit.state
        if hit is not None:
            request.read = request.cached = hit.length
        if request.unread:
            (self._reading if request.scoring is None else self._scoring).append(request)
        else:
            self._end_prompt(request, turn)

    def _read(self, turn: Turn) -> None:
        """Read a slice of the prompts; those that are read to their end draw from now on."""
        rows, left = len(self._drawing.rows), self._drawing.largest_left
        seconds = read_seconds(rows, left, self._draw_cost)
        if self._reading and self._scoring:
            seconds /= 2
        if self._reading:
            chosen, count = read_slice(self._reading, seconds, self._read_cost)
            self._advance(chosen, count, turn)
        if self._scoring:
            alone = not rows and not self._reading
            most = MOST_SCORERS if alone else MOST_READERS
            chosen, count = read_slice(self._scoring, seconds, self._score_cost, most)
            self._advance(chosen, count, turn)

    def _advance(self, chosen: list[GenerationRequest], count: int, turn: Turn) -> None:
        """Read `count` ids of some prompts that are all scored, or all not."""
        try:
            if chosen[0].scoring is None:
                started = self._clock()
                self._rows.read(_places(chosen), _ids(chosen, 0, count))
                self._read_cost.record(len(chosen), count, self._clock() - started)
            else:
                self._score(chosen, count, turn)
            for request in chosen:
                request.read += count
                if not request.unread:
                    self._end_prompt(request, turn)
                elif request.at_mark:
                    self._snapshot(request)
        except Exception:
            self._fail(chosen, turn)
            self._forget(set(chosen))
        self._forget({request for request in chosen if not request.unread})

    def _score(self, chosen: list[GenerationRequest], count: int, turn: Turn) -> None:
        """Read ids of some prompts and note how likely those after them were."""
        started = self._clock()
        wanted = most_wanted([request.scoring.top for request in chosen if request.scoring is not None])
        scored = self._rows.score(_places(chosen), _ids(chosen, 0, count), _ids(chosen, 1, count), wanted)
        self._score_cost.record(len(chosen), count, self._clock() - started)
        for at, request in enumerate(chosen):
            scoring = request.scoring
            assert scoring is not None
            part = Slice(request.read + 1, scores_at(scored, at, scoring.top))
            if scoring.on_scores is None:
                scoring.keep(part)
            else:
                turn.scored.append((request, part))

    def _draw(self, turn: Turn) -> None:
        """Draw some ids for every row whose prompt is read."""
        drawing = self._drawing
        steps = draw_steps(len(drawing.rows), drawing.largest_left, self._draw_cost)
        try:
            started = self._clock()
            drawn = self._rows.draw(drawing.slots, steps)
            now = self._clock()
            self._draw_cost.record(len(drawing.rows), steps, now - started)
            if drawn.ids.shape != (len(drawing.rows), steps):
                raise RuntimeError(f"{len(drawing.rows)} rows drew {drawn.ids.shape} ids in {steps} steps")
            events = drawing.accept(drawn, now)
            self._counters.drew(len(drawing.rows), steps, now - started, now, self._begun, drawing.beyond(events))
            turn.events += events
        except Exception:
            self._fail(list({row.request: None for row in drawing.rows}), turn)
            drawing.end(drawing.rows)
            self._clean()
        self._begun = []

    def _end_prompt(self, request: GenerationRequest, turn: Turn) -> None:
        """The prompt of a request is read: its first text draws from now on, and the others may follow."""
        if not request.max_tokens:
            turn.events += [Event(row, Piece("", "length")) for row in request.rows]
            return
        if len(request.rows) > 1 or (request.prefixes is not None and request.read > request.cached):
            self._snapshot(request)
        request.prefixes = None  # of no more use, and large
        turn.read.append(request)
        self._begin(request.rows[0])

    def _snapshot(self, request: GenerationRequest) -> None:
        """Keep the state after what is read of a prompt, for other texts and other requests."""
        state = self._rows.state[request.rows[0].slot].copy()
        state.setflags(write=False)
        if not request.unread:
            request.state = state
        if request.prefixes is not None:
            self._cache.store(request.prefixes, request.read, state)

    def _begin(self, row: Generation) -> None:
        self._rows.set(row.slot, row.sampling, int(row.request.prompt[-1]))
        self._drawing.begin(row)
        self._begun.append(row.request.arrived)

    def _fail(self, requests: Sequence[GenerationRequest], turn: Turn) -> None:
        """Note that a call raised: its requests have failed, and nobody else."""
        logger.exception("A call failed; the %d requests in it end with an error, the others go on.", len(requests))
        self._counters.failures += 1
        turn.failed += requests

    def _forget(self, requests: Set[GenerationRequest]) -> None:
        """Read no more of some prompts."""
        if requests:
            self._reading = [request for request in self._reading if request not in requests]
            self._scoring = [request for request in self._scoring if request not in requests]

    def _clean(self) -> None:
        """Go on in rows of which no failed call knows anything, with the states of those that only read."""
        rows = self._decoder.rows(self._slots)
        for request in [*self._reading, *self._scoring]:
            rows.state[request.rows[0].slot] = self._rows.state[request.rows[0].slot]
        self._rows = rows


def _places(requests: list[GenerationRequest]) -> list[int]:
    """Where the row is that reads each prompt."""
    return [request.rows[0].slot for request in requests]


def _ids(requests: list[GenerationRequest], ahead: int, count: int) -> NDArray[np.int32]:
    """The next ids of some prompts (B, count), or those that stand so many ids ahead of them."""
    starts = [request.read + ahead for request in requests]
    return np.stack([request.prompt[at : at + count] for request, at in zip(requests, starts, strict=True)])
