"""The threads that generate: they take requests from the event loop, work in turns, and return text to the loop."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Hashable
from typing import Literal

from model.cores import available_cores
from model.errors import ServiceError
from service.engine.counters import Counters, Refusal, WorkerCounters
from service.engine.decode_batch import Event
from service.engine.lanes import Lanes
from service.engine.output import Piece
from service.engine.prefix_cache import PrefixCache
from service.engine.prompt_scores import Slice
from service.engine.scheduler import SHARE, Changes, Scheduler
from service.engine.sequence import EngineModel, Sequence, SequenceGroup
from service.engine.text_request import TextRequest
from service.engine.worker import Turn
from service.errors import (
    DeadlineExceeded,
    Draining,
    EngineStopped,
    MemorySpent,
    QueueFull,
    ReaderTooSlow,
    StepFailed,
)
from service.process.background import Background, stand_back
from service.process.bell import Bell
from service.process.delivery import Delivery
from service.settings import Settings

logger = logging.getLogger(__name__)

Status = Literal["ok", "draining", "failed"]

LOOK_SECONDS = 0.25  # between two checks of deadlines, which the event loop makes as threads may hang
STOP_SECONDS = 0.5  # for turns to end; a turn that hangs must not keep the process alive

UNTAKEN = "The server has dropped this text, because you read it too slowly; read faster, or ask for less."
SPENT = "The server has no memory for this now; try again in a moment, or ask for less."
FAILED = "The server failed in the middle of this text; it has been logged. Try again."


class Engine:
    """Generates the texts of all requests and models together, in threads of its own.

    settings: numbers of threads, slots and requests, the time limit of a request, the size of the prefix cache.

    Methods are called from the event loop's thread and return at once. The lock guards only the scheduler; the
    threads hold it between two turns and never during one.
    """

    def __init__(self, settings: Settings) -> None:
        workers, spare = settings.workers, settings.max_rows // SHARE
        slots = [(settings.max_rows + spare + at) // workers for at in range(workers)]
        timeout = settings.deadline_seconds or float("inf")
        self.slots = sum(slots)
        """The number of texts that are generated at once."""
        self.background = Background(self.has_others if available_cores() == 1 else None)
        """Runs work that would block the event loop."""
        self.cache = PrefixCache(settings.prefix_cache_bytes)
        self.counters = Counters([WorkerCounters() for _ in slots])
        """The engine's counters."""
        self.log_prompts = settings.log_prompts
        """Whether prompts may be logged."""
        self.died = False
        """Whether a thread has died."""
        self._scheduler: Scheduler[SequenceGroup, Sequence] = Scheduler(slots, settings.max_waiting, spare)
        self._timeout = timeout
        self._max_held_ids = settings.max_held_characters
        self._max_untaken = settings.max_untaken_characters
        self._held_ids = 0
        self._groups: set[SequenceGroup] = set()
        self._offered = 0.0  # when the last request came
        self._work = threading.Condition()
        self._loop: asyncio.AbstractEventLoop
        self._refusal: ServiceError | None = EngineStopped("The server has not started; try again in a moment.")
        self._stopping = False
        self._retired = 0  # the number of models that were retired
        self._delivery = Delivery()
        self._bell = Bell(self._deliver)
        self._looking: asyncio.TimerHandle | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(index, count), name=f"engine-{index}", daemon=True)
            for index, count in enumerate(slots)
        ]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads and accept requests; their text is delivered in `loop`."""
        self._loop = loop
        self._refusal = None
        self._bell.hang(loop)
        self.background.start(loop)
        for thread in self._threads:
            thread.start()
        self._look()

    def stop(self) -> None:
        """End the threads after their current turns. Unfinished requests stay unfinished."""
        self._refusal = EngineStopped("The server has stopped.")
        self.background.stop()
        with self._work:
            self._stopping = True
            self._work.notify_all()
        if self._looking is not None:
            self._looking.cancel()
        until = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
        self._bell.take_down()

    def late(self) -> DeadlineExceeded:
        """The error of a request that takes too long: a new one each time, because it keeps the frames it passes."""
        return DeadlineExceeded(
            f"The text was not finished after {self._timeout:g} seconds; "
            "ask for fewer characters, or try again when the server is less busy."
        )

    def deadline(self, arrived: float) -> float:
        """When the time of a request with this arrival is over, by `time.monotonic`; infinity without a limit."""
        return arrived + self._timeout

    def expect(self, request: TextRequest) -> None:
        """Raise the error of `submit` for a request, if counts alone decide it, before anything is made for it."""
        self._check(sum(map(len, request.prompts)))
        if request.max_tokens or request.read:
            try:  # without the lock: only a hint, which `submit` checks again
                self._scheduler.check(request.rows, len(request.prompts), request.caller, request.width)
            except QueueFull as error:
                raise self._refused("queue_full", error) from None

    def _check(self, held: int) -> None:
        """Raise the error that refuses all requests now, or those with prompts of this many ids."""
        if self._refusal is not None:
            raise self._refused("draining" if isinstance(self._refusal, Draining) else "stopped", self._refusal)
        if self._groups and self._held_ids + held > self._max_held_ids:
            message = "Other prompts take all the memory that this server has for prompts; try again in a moment."
            raise self._refused("prompts_held", QueueFull(message))

    def submit(self, *groups: SequenceGroup) -> None:
        """Generate the texts of some groups, all of one request, as soon as there are slots; the texts arrive in the
        groups' outputs.

        Either all groups are accepted or none. The caller must release every submitted group. Raises Draining,
        EngineStopped, QueueFull, and ParameterError for more texts than the server ever holds.
        """
        held = sum(group.held for group in groups)
        self._check(held)
        now = time.monotonic()
        for group in groups:
            group.submitted = now
        working = {group: group.rows for group in groups if group.request.max_tokens or group.request.read}
        request = groups[0].request
        with self._work:
            self._offered = now
            try:
                self._scheduler.add(working, self.deadline(request.arrived), request.caller)
            except QueueFull as error:
                raise self._refused("queue_full", error) from None
            self._work.notify_all()
        idle = [row for group in groups if group not in working for row in group.sequences]
        self._take(groups, held)
        if idle:
            self._deliver([], [Event(row, Piece("", "length")) for row in idle], [])

    def _take(self, groups: tuple[SequenceGroup, ...], held: int) -> None:
        """Add groups to the ones that are held, and count them."""
        self._groups.update(groups)
        self._held_ids += held
        self.counters.submitted += sum(len(group.sequences) for group in groups)
        self.counters.prompt_tokens += sum(group.prompt_tokens for group in groups)
        self.counters.unseen += sum(group.unseen for group in groups)
        for group in groups:
            group.model.groups += 1
            group.model.counts.submitted += len(group.sequences)
            group.model.counts.prompt_tokens += group.prompt_tokens

    def _refused(self, reason: Refusal, error: ServiceError) -> ServiceError:
        """Count a refusal, and return its error."""
        self.counters.refused[reason] += 1
        return error.with_traceback(None)  # an error that refuses all requests would keep the frames of each

    def release(self, *groups: SequenceGroup) -> None:
        """Release groups: free the slots of texts that have not finished, after their current turn."""
        known = self._groups.intersection(groups)
        if not known:
            return
        self._groups -= known
        self._held_ids -= sum(group.held for group in known)
        for group in known:
            self.counters.finished["abort"] += group.end(len(group.sequences))
        with self._work:
            before = self._scheduler.running + self._scheduler.waiting
            for group in known:
                self._scheduler.drop(group)
            if self._scheduler.running + self._scheduler.waiting < before:
                self._work.notify_all()  # if all texts have ended, this would wake a thread for nothing
        for group in known:
            group.let_go()
            group.model.groups -= 1
            if not group.model.groups and group.model.on_idle is not None:
                group.model.on_idle()

    def retire(self, model: EngineModel) -> None:
        """Keep nothing of a model after the texts that are held now; no more of its texts will be submitted."""
        model.retired = True
        self.cache.forget(model.owner)
        with self._work:
            self._retired += 1
            self._work.notify_all()

    def drain(self) -> None:
        """Accept no more requests; those that run or wait continue."""
        self._refusal = self._refusal or Draining("The server is stopping; use another server, or try again later.")

    def abandon(self, error: ServiceError) -> None:
        """End every request now, with an error."""
        self.background.abandon(error)
        self._bell.hear()
        self._delivery.finish()
        for group in list(self._groups):
            self._give_up(group, error)

    def _give_up(self, group: SequenceGroup, error: ServiceError) -> None:
        group.output.fail(error)
        self.counters.finished["error"] += group.end(len(group.sequences))
        self.release(group)

    @property
    def status(self) -> Status:
        """ "ok" while requests are accepted, "draining" while the last ones end, "failed" once none is accepted."""
        if isinstance(self._refusal, Draining) and not self.died:
            return "draining"
        return "failed" if self._refusal else "ok"

    @property
    def failures(self) -> int:
        """Calls of the model that raised an exception."""
        return self.counters.failures

    @property
    def threads(self) -> int:
        """The number of generating threads that are alive."""
        return sum(thread.is_alive() for thread in self._threads)

    @property
    def started(self) -> int:
        """The number of generating threads that were started, alive or not."""
        return sum(thread.ident is not None for thread in self._threads)

    @property
    def progressed(self) -> float:
        """When the slowest thread last ended a turn, by `time.monotonic`; the present if there is nothing to do.

        For a thread that just woke this is its waking; if all sleep though there is work, its arrival.
        """
        if (oldest := min(worker.progressed for worker in self.counters.workers)) < math.inf:
            return oldest
        return self._offered if self.running or self.waiting else time.monotonic()

    @property
    def running(self) -> int:
        """The number of texts with a slot."""
        return self._scheduler.running

    @property
    def waiting(self) -> int:
        """The number of texts that wait for a slot, or until another text of their group has read the prompt."""
        return self._scheduler.waiting

    def has_others(self, caller: Hashable) -> bool:
        """Whether any other caller has texts here."""
        return self._scheduler.has_others(caller)

    def waits(self, caller: Hashable) -> int:
        """The number of slots that a caller's waiting texts will take."""
        return self._scheduler.waits(caller)

    def _run(self, index: int, slots: int) -> None:
        """The loop of one thread: it works in turns while there are rows, and sleeps while there are none."""
        try:
            stand_back()
            counters = self.counters.workers[index]
            lanes = Lanes(slots, self.cache, time.monotonic, counters, self._scheduler.crowd)
            while self._turn(index, lanes):
                pass
        except BaseException:
            logger.critical("A thread of the engine has died; restart the server.", exc_info=True)
            error = EngineStopped("The server cannot generate text any more; it must be restarted.")
            self._loop.call_soon_threadsafe(self._die, error)

    def _turn(self, index: int, lanes: Lanes) -> bool:
        """One turn; False when the thread must end. Its references to texts and models end with it."""
        changes = self._next(index, lanes)
        if changes is None:
            return False
        counters = self.counters.workers[index]
        if counters.progressed == math.inf:
            counters.progressed = time.monotonic()
        self._settle(lanes.turn(changes), counters)
        return True

    def _next(self, index: int, lanes: Lanes) -> Changes[Sequence] | None:
        """Wait for work; returns the changes since the thread's last turn, or None when the thread must end."""
        with self._work:
            while not self._stopping:
                changes = self._scheduler.changes(index)
                if lanes.tidied != self._retired:
                    lanes.tidied = self._retired
                    lanes.tidy()
                if lanes.busy or changes.leaving or changes.joining:
                    return changes
                lanes.tidy()
                self.counters.workers[index].progressed = math.inf
                self._work.wait()
        return None

    def _settle(self, turn: Turn, counters: WorkerCounters) -> None:
        """Report a turn to the scheduler, and pass its results to the event loop, all at once."""
        ended = [event.row for event in turn.events if event.piece.finish_reason is not None]
        counters.progressed = now = time.monotonic()
        with self._work:
            late = self._scheduler.expire(now)
            for group in turn.read:
                self._scheduler.fork(group)
            for row in ended:
                self._scheduler.finish(row.group, row)
            for group in turn.failed:
                self._scheduler.drop(group)
            if late or turn.read or ended or turn.failed:
                self._work.notify_all()
        errors: list[tuple[SequenceGroup, ServiceError]] = [(group, self.late()) for group in late]
        starved = turn.starved
        errors += [(group, MemorySpent(SPENT) if group in starved else StepFailed(FAILED)) for group in turn.failed]
        if turn.events or turn.scored or errors:
            self._bell.ring(turn.scored, turn.events, errors)

    def _look(self) -> None:
        """End requests after their deadline, even if no thread ends a turn."""
        with self._work:
            late = self._scheduler.expire(time.monotonic())
        self._deliver([], [], [(group, self.late()) for group in late])
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)

    def _die(self, error: ServiceError) -> None:
        self.died = True
        self._refusal = error
        self.abandon(error)

    def _deliver(
        self,
        scored: list[tuple[SequenceGroup, Slice]],
        events: list[Event],
        errors: list[tuple[SequenceGroup, ServiceError]],
    ) -> None:
        """Deliver the results of a turn; in the event loop's thread."""
        self._delivery.add(self._loop, (self._score, scored), (self._grow, events), (self._fail, errors))

    def _score(self, group: SequenceGroup, slice_: Slice) -> bool:
        if group in self._groups and group.scoring is not None and group.scoring.on_scores is not None:
            try:
                group.scoring.on_scores(group.index, slice_)
            except MemoryError:
                self._give_up(group, MemorySpent(SPENT))
        return True

    def _grow(self, row: Sequence, piece: Piece) -> bool:
        """Deliver a piece; count the text if it has ended, and drop it if there is no room for its unread part.

        Returns whether that wakes the task that waits for it.
        """
        if row.group not in self._groups:
            return False  # the text was released meanwhile, and its charge too
        output = row.group.output
        waking = not output.arrived
        try:
            row.group.deliver(row.choice, piece)
        except ServiceError as error:
            self._give_up(row.group, error)
        except MemoryError:
            self._give_up(row.group, MemorySpent(SPENT))
        if piece.finish_reason is not None:
            self.counters.finished[piece.finish_reason] += row.group.end(1)
            row.group.model.counts.tokens += piece.tokens
        elif output.held > self._max_untaken:
            self._give_up(row.group, ReaderTooSlow(UNTAKEN))
        return waking and output.arrived

    def _fail(self, group: SequenceGroup, error: ServiceError) -> bool:
        group.output.fail(error)
        self.counters.finished["deadline" if isinstance(error, DeadlineExceeded) else "error"] += group.end(
            len(group.sequences)
        )
        return True
