"""The rows of one model on one thread, and the turns that prefill and decode them."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Set
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import AnyDecoder, Drawn
from model.online_memory.memory import OnlineMemory
from model.online_memory.scoring import score_with
from service.engine.counters import WorkerCounters
from service.engine.decode_batch import DecodeBatch, Event, alone
from service.engine.output import Piece, found_piece
from service.engine.prefix_cache import PrefixCache
from service.engine.prompt_scores import Slice, columns_of, most_wanted, scores_at, watched
from service.engine.sequence import Sequence, SequenceGroup
from service.engine.turn_budget import (
    DECODE_SECONDS,
    MOST_APART,
    MOST_SCORED,
    Cost,
    UnreadPrompts,
    decode_steps,
    prefill_seconds,
)
from service.process.time_shares import EVERYBODY, TimeShares

logger = logging.getLogger(__name__)

Unread = UnreadPrompts[SequenceGroup]


@dataclass(slots=True)
class Turn:
    """The results of one turn.

    events: texts that have grown or ended. scored: scores of slices of prompts, for groups that request them.
    read: groups whose prompt is read and whose other texts may begin.
    failed: groups in a call that raised an exception; starved: the failed groups for which there was no memory.
    """

    events: list[Event] = field(default_factory=list)
    scored: list[tuple[SequenceGroup, Slice]] = field(default_factory=list)
    read: list[SequenceGroup] = field(default_factory=list)
    failed: list[SequenceGroup] = field(default_factory=list)
    starved: set[SequenceGroup] = field(default_factory=set)


class Worker:
    """Prefills prompts and decodes texts of one model in `slots` slots of its own; for one thread.

    clock: gives seconds. counters: its own. shares: of its thread, None makes new ones. crowd: of its callers.
    """

    def __init__(
        self,
        decoder: AnyDecoder,
        slots: int,
        cache: PrefixCache,
        clock: Callable[[], float],
        counters: WorkerCounters | None = None,
        shares: TimeShares | None = None,
        crowd: Callable[[Hashable], int] = alone,
    ) -> None:
        self._decoder = decoder
        self._slots = slots
        self._cache = cache
        self._clock = clock
        self._counters = counters or WorkerCounters()
        self._shares = shares or TimeShares()
        self._rows = decoder.rows(slots)
        self._busy = time.thread_time if decoder.computes_here else clock  # a call's time without interruptions
        self._prefilling = Unread()
        self._scoring = Unread(alone=MOST_SCORED)  # prompts that are scored
        self._apart = Unread(MOST_APART, MOST_APART)  # prompts that report more than scores
        self._unread = self._prefilling, self._scoring, self._apart
        self._searching: list[SequenceGroup] = []  # groups with a beam search
        self._decoding = DecodeBatch(slots, decoder.config.vocabulary, crowd)
        self._begun: list[Sequence] = []  # rows that draw for the first time
        self._decode_cost = Cost()

    @property
    def busy(self) -> bool:
        """Whether there is work for a turn."""
        return bool(any(kind.prompts for kind in self._unread) or self._searching or self._decoding.rows)

    def leave(self, rows: list[Sequence]) -> None:
        """Release the slots of some rows; rows of other workers are ignored."""
        self._forget({row.group for row in rows if row.choice == 0})
        self._decoding.end(rows)
        if self._begun:
            gone = set(rows)
            self._begun = [row for row in self._begun if row not in gone]

    def join(self, row: Sequence, turn: Turn) -> None:
        """Add a row."""
        try:
            self._join(row, turn)
        except Exception as error:
            self._fail([row.group], turn, error)

    def callers(self) -> set[Hashable]:
        """The callers with work for a turn."""
        groups = (*self._reading(), *self._searching)
        return {*(group.sequences[0].caller for group in groups), *(row.caller for row in self._decoding.rows)}

    def work(self, turn: Turn) -> None:
        """Read a slice of the prompts, and draw some ids for every row whose prompt is read; callers who are ahead
        wait as long as there are others."""
        waiting = self._shares.waiting
        if waiting and waiting >= self.callers():
            waiting = EVERYBODY
        self._decoding.choose(waiting)
        if any(kind.prompts for kind in self._unread):
            self._prefill(turn, waiting)
        if self._decoding.drawing:
            self._decode(turn)
        if self._searching:
            self._search(turn, waiting)

    def _join(self, row: Sequence, turn: Turn) -> None:
        """Put a row in its slot: with the state after its prompt if another row has read it, otherwise to read it."""
        group = row.group
        if row.choice:
            assert group.state is not None
            self._rows.state[row.slot] = group.state
            self._begin(row)
            return
        self._counters.queued.observe(self._clock() - group.submitted)
        weights = group.request.memory
        if weights is not None and group.scoring is not None:
            group.memory = OnlineMemory(weights, len(group.prompt))
        remembers = group.memory is not None  # from the first id
        hit = None if group.prefixes is None or remembers else self._cache.find(group.prefixes)
        if group.scoring is not None:
            group.prefixes = None  # the cache may have the beginning of a scored prompt, but does not store it
        self._rows.state[row.slot] = group.initial if hit is None else hit.state
        if hit is not None:
            group.read = group.cached = hit.length
        if group.unread:
            self._kind_of(group).prompts.append(group)
        else:
            self._end_prompt(group, turn)

    def _prefill(self, turn: Turn, waiting: Set[Hashable]) -> None:
        """Read a slice of the prompts; a row whose prompt is read to its end is decoded from now on."""
        kinds = [(kind, _of_others(kind.prompts, waiting)) for kind in self._unread if kind.prompts]
        working = [(kind, groups) for kind, groups in kinds if groups]
        rows, left = len(self._decoding.drawing), self._decoding.largest_left
        seconds = prefill_seconds(rows, left, self._decode_cost) / max(len(working), 1)
        for kind, groups in working:
            chosen, count = kind.chunk(groups, seconds, alone=not rows and len(kinds) == 1)
            self._advance(kind, chosen, count, turn)

    def _kind_of(self, group: SequenceGroup) -> Unread:
        """The prompts with which a group's prompt is read."""
        if group.scoring is None:
            return self._prefilling
        return self._apart if group.scoring.apart else self._scoring

    def _reading(self) -> list[SequenceGroup]:
        """The groups whose prompt is not read yet."""
        return [group for kind in self._unread for group in kind.prompts]

    def _advance(self, kind: Unread, chosen: list[SequenceGroup], count: int, turn: Turn) -> None:
        """Read `count` ids of some prompts of a kind."""
        try:
            started = self._busy()
            if chosen[0].scoring is None:
                self._rows.read(_slots_of(chosen), _ids(chosen, 0, count))
            else:
                self._score(chosen, count, turn)
            self._record(kind.cost, chosen, count, started)
            for group in chosen:
                group.read += count
                if not group.unread:
                    self._end_prompt(group, turn)
                elif group.at_mark:
                    self._snapshot(group)
        except Exception as error:
            self._fail(chosen, turn, error)
            self._forget(set(chosen))
        kind.forget()

    def _score(self, chosen: list[SequenceGroup], count: int, turn: Turn) -> None:
        """Read ids of some prompts and score the ids after them."""
        wishes = [group.scoring for group in chosen if group.scoring is not None]
        wanted, columns = most_wanted([wish.top for wish in wishes]), watched([wish.watch for wish in wishes])
        memories = [group.memory for group in chosen]
        remembers = any(memory is not None for memory in memories)
        score = partial(score_with, self._rows, memories) if remembers else self._rows.score
        scored = score(_slots_of(chosen), _ids(chosen, 0, count), _ids(chosen, 1, count), wanted, columns)
        for at, (group, scoring) in enumerate(zip(chosen, wishes, strict=True)):
            if scoring.watch is not None and scored.states is not None and columns is not None:
                scoring.watch.take(group.read, columns_of(scored.states[at], columns, scoring.watch.columns))
            if scoring.gathers:
                whole = scoring.gather(group.read + 1, scored.logprobs[at])
                if whole is not None:
                    turn.scored.append((group, whole))
                continue
            part = Slice(group.read + 1, scores_at(scored, at, scoring.top))
            if scoring.on_scores is None:
                scoring.keep(part)
            else:
                turn.scored.append((group, part))

    def _record(self, cost: Cost, groups: list[SequenceGroup], steps: int, started: float) -> None:
        """Record the duration of a call that read ids of some prompts, and charge it to their callers."""
        cost.record(len(groups), steps, self._busy() - started)
        if self._shares.shared:
            callers = Counter(group.sequences[0].caller for group in groups)
            self._shares.charge(callers, steps * cost.per_step(len(groups)))

    def _decode(self, turn: Turn) -> None:
        """Draw some ids for every row whose prompt is read and whose caller does not wait."""
        decoding = self._decoding
        steps = decode_steps(len(decoding.drawing), decoding.largest_left, self._decode_cost)
        if decoding.recorded:
            steps = min(steps, decoding.most_steps)
        try:
            for _, row, recorder in decoding.recorded:
                recorder.before_call(self._rows, row.slot)
            started, busy = self._clock(), self._busy()
            drawn = self._rows.draw(decoding.slots, steps)
            now, rows = self._clock(), len(decoding.drawing)
            drew = self._busy()
            self._decode_cost.record(rows, steps, drew - busy)
            if drawn.ids.shape != (rows, steps):
                raise RuntimeError(f"{rows} rows drew {drawn.ids.shape} ids in {steps} steps")
            events, begun = decoding.accept(drawn, now), self._begun_of(decoding)
            if self._shares.shared:  # the time includes making text, which takes as long for many rows
                self._shares.charge(decoding.callers, steps * self._decode_cost.per_step(rows) + self._busy() - drew)
            beyond = decoding.beyond(events)
            self._counters.decoded(rows, steps, now - started, now, decoding.drawn_at, begun, beyond)
            decoding.drawn_at = now
            turn.events += events if not decoding.recorded else self._with_states(drawn, events)
            self._fail(decoding.end_starved(), turn, MemoryError("to keep what it drew"))
        except Exception as error:
            self._fail(list({row.group: None for row in decoding.drawing}), turn, error)
            decoding.end(decoding.drawing)
            if not decoding.rows:  # rows that waited continue unchanged: a call of others does not touch them
                self._clean()

    def _begun_of(self, decoding: DecodeBatch) -> list[float]:
        """The arrivals of the requests whose rows have just drawn for the first time."""
        begun, drawing = self._begun, decoding.drawing
        self._begun = []
        if len(drawing) < len(decoding.rows):
            first = set(begun).intersection(drawing)
            self._begun = [row for row in begun if row not in first]
            begun = list(first)
        return [row.group.request.arrived for row in begun]

    def _search(self, turn: Turn, waiting: Set[Hashable]) -> None:
        """Make steps with all beam searches until their share of the turn is over."""
        until = self._clock() + DECODE_SECONDS
        while searching := _of_others(self._searching, waiting):
            try:
                self._step(searching, turn)
            except Exception as error:
                self._fail(searching, turn, error)
                self._forget(set(searching))
            if self._clock() >= until:
                return

    def _step(self, groups: list[SequenceGroup], turn: Turn) -> None:
        """Make one step with some beam searches, all their beams in one call."""
        started, busy, slots = self._clock(), self._busy(), list[int]()
        searches = [group.search or group.begin_search() for group in groups]
        live = [search.live for search in searches]
        for group, search, count in zip(groups, searches, live, strict=True):
            own = group.sequences[0].slots[:count]
            search.prepare(self._rows, own, int(group.prompt[-1]))
            slots += own
        drawn = self._rows.draw(slots, 1)
        at = 0
        for group, search, count in zip(groups, searches, live, strict=True):
            search.accept(self._rows, group.sequences[0].slots, drawn, at)
            at += count
            if not search.live:
                pieces = [found_piece(found, group.request.logprobs) for found in search.best(group.request.n)]
                turn.events += map(Event, group.sequences, pieces)
                self._searching.remove(group)
        now = self._clock()
        if self._shares.shared:
            callers = Counter[Hashable]()
            for group, count in zip(groups, live, strict=True):
                callers[group.sequences[0].caller] += count
            self._shares.charge(callers, self._busy() - busy)
        begun = [group.request.arrived for group, search in zip(groups, searches, strict=True) if search.steps == 1]
        self._counters.searched(len(slots), now - started, [now - arrived for arrived in begun])

    def _with_states(self, drawn: Drawn, events: list[Event]) -> list[Event]:
        """The events of a call; those of ended texts have the state after the text, if it is requested."""
        ended = {event.row: at for at, event in enumerate(events) if event.piece.finish_reason is not None}
        for at, row, recorder in self._decoding.recorded:
            event = ended.get(row)
            if event is None:
                recorder.take(drawn.ids[at] if drawn.counts is None else drawn.ids[at, : int(drawn.counts[at])])
                continue
            piece = events[event].piece
            recorder.end(self._rows, row.slot, drawn.ids[at], piece.tokens - recorder.count)
            state = recorder.now(np.array(self._rows.state[row.slot]), row.stream)
            events[event] = Event(row, piece._replace(state=state))
        return events

    def _undrawn(self, row: Sequence) -> Piece:
        """The only piece of a text for which nothing is drawn."""
        group = row.group
        if not group.request.return_state:
            return Piece("", "length")
        row.begin()
        assert row.recorder is not None
        network = np.array(self._rows.state[group.sequences[0].slot])
        state = row.recorder.now(network, row.stream)
        return Piece("".join(row.pending), "length", state=state)

    def _end_prompt(self, group: SequenceGroup, turn: Turn) -> None:
        """The prompt of a group is read: its first text is decoded from now on, and its other texts may follow."""
        group.memory = None
        if not group.request.max_tokens:
            turn.events += [Event(row, self._undrawn(row)) for row in group.sequences]
            return
        if len(group.sequences) > 1 or (group.prefixes is not None and group.read > group.cached):
            self._snapshot(group)
        group.prefixes = None  # no longer needed, and large
        turn.read.append(group)
        self._begin(group.sequences[0])

    def _snapshot(self, group: SequenceGroup) -> None:
        """Copy the state after the read part of a prompt, for the other texts of the group and for the cache."""
        state = self._rows.state[group.sequences[0].slot].copy()
        state.setflags(write=False)
        if not group.unread:
            group.state = state
        if group.prefixes is not None:
            self._cache.store(group.prefixes, group.read, state)

    def _begin(self, row: Sequence) -> None:
        if row.group.request.beams is not None:
            self._searching.append(row.group)
            return
        row.begin()
        self._rows.set(row.slot, row.sampling, int(row.group.prompt[-1]))
        self._decoding.begin(row)
        self._begun.append(row)

    def _fail(self, groups: list[SequenceGroup], turn: Turn, error: Exception) -> None:
        fail(groups, turn, error, self._counters)

    def _forget(self, groups: Set[SequenceGroup]) -> None:
        """Stop reading some prompts, and the searches after them."""
        if groups:
            for kind in self._unread:
                kind.forget(groups)
            self._searching = [group for group in self._searching if group not in groups]

    def _clean(self) -> None:
        """Continue with new rows, which no failed call has touched, and with the states of prompts and searches."""
        rows = self._decoder.rows(self._slots)
        for group in [*self._reading(), *self._searching]:
            rows.state[group.sequences[0].slots] = self._rows.state[group.sequences[0].slots]
        self._rows = rows


def fail(groups: list[SequenceGroup], turn: Turn, error: Exception, counters: WorkerCounters) -> None:
    """Log that a call raised an exception: its groups have failed, all others continue."""
    if not groups:
        return
    logger.error("A call failed; its %d requests end with an error, the others continue.", len(groups), exc_info=error)
    counters.failures += 1
    turn.failed += groups
    if isinstance(error, MemoryError):
        turn.starved.update(groups)


def _of_others(groups: list[SequenceGroup], waiting: Set[Hashable]) -> list[SequenceGroup]:
    """The groups of callers who do not wait."""
    if not waiting:
        return list(groups)
    return [group for group in groups if group.sequences[0].caller not in waiting]


def _slots_of(groups: list[SequenceGroup]) -> list[int]:
    """The slots of the rows that read the prompts."""
    return [group.sequences[0].slot for group in groups]


def _ids(groups: list[SequenceGroup], ahead: int, count: int) -> NDArray[np.int32]:
    """The next ids of some prompts (B, count), or the ids `ahead` positions later."""
    starts = [group.read + ahead for group in groups]
    return np.stack([group.prompt[at : at + count] for group, at in zip(groups, starts, strict=True)])
