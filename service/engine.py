"""The thread that generates: rows from the scheduler through the batch, one step at a time, text to the event loop."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Literal, TypeVar

from model.decoder import Decoder
from model.errors import ServiceError
from model.generate import Piece
from service.batch import Batch
from service.errors import Draining, EngineStopped, QueueFull, StepFailed
from service.generation import Generation, GenerationRequest
from service.scheduler import Scheduler

logger = logging.getLogger(__name__)

Status = Literal["ok", "draining", "failed"]
Event = tuple[Generation, Piece]
Events = TypeVar("Events")


class Engine:
    """Generates the texts of all requests together, in a thread of its own.

    max_rows, max_waiting: see Scheduler. max_held_ids: ids all prompts together may have; a single one always may.

    Methods are called from the event loop's thread and return at once. The lock guards the scheduler alone, and
    the engine's thread holds it between two steps, never during one.
    """

    def __init__(self, decoder: Decoder, *, max_rows: int, max_waiting: int, max_held_ids: int) -> None:
        self._decoder = decoder
        self._batch = Batch(decoder)
        self._scheduler: Scheduler[Generation] = Scheduler(max_rows, max_waiting)
        self._work = threading.Condition()
        self._loop: asyncio.AbstractEventLoop
        self._requests: set[GenerationRequest] = set()
        self._max_held_ids = max_held_ids
        self._held_ids = 0
        self._refusal: ServiceError | None = EngineStopped("The server has not started; try again in a moment.")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to take requests, whose text is handed to `loop`."""
        self._loop = loop
        self._refusal = None
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the step it is in. Requests that are not finished never will be."""
        self._refusal = EngineStopped("The server has stopped.")
        with self._work:
            self._stopping = True
            self._work.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, request: GenerationRequest) -> None:
        """Let a request's rows wait for their place in the batch; its text arrives in `request.output`.

        Every submitted request has to be released. Raises Draining, EngineStopped, QueueFull, and ParameterError
        for more texts than there can ever be places.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._requests and self._held_ids + len(request.prompt.ids) > self._max_held_ids:
            raise QueueFull("The prompts being read and waiting are all this server holds; try again in a moment.")
        if request.rows[0].max_tokens:
            with self._work:
                self._scheduler.add(request.rows)
                self._work.notify()
        else:
            _deliver([(row, Piece("", "length")) for row in request.rows])
        self._requests.add(request)
        self._held_ids += len(request.prompt.ids)

    def release(self, request: GenerationRequest) -> None:
        """Let a request go: free the places of whatever has not finished, after the step it is in."""
        if request not in self._requests:
            return
        self._requests.remove(request)
        self._held_ids -= len(request.prompt.ids)
        with self._work:
            self._scheduler.remove(request.rows)

    def drain(self) -> None:
        """Take no more requests; those running and waiting go on."""
        self._refusal = self._refusal or Draining("The server is stopping; send this to another, or try again later.")

    def abandon(self, error: ServiceError) -> None:
        """End every request now, with an error."""
        for request in list(self._requests):
            request.output.fail(error)
            self.release(request)

    @property
    def status(self) -> Status:
        """ "ok" while requests are taken, "draining" while the last ones end, "failed" when no text comes any more."""
        if isinstance(self._refusal, Draining) and self._thread.is_alive():
            return "draining"
        return "failed" if self._refusal else "ok"

    @property
    def running(self) -> int:
        """Rows that advance in each step."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Rows that wait for a place."""
        return len(self._scheduler.waiting)

    def _run(self) -> None:
        """The thread: step while there are rows, sleep while there are none."""
        try:
            while rows := self._next_rows():
                self._step(rows)
        except BaseException:
            logger.critical("The engine's thread has died; restart the server.", exc_info=True)
            self._hand_over(self._die, EngineStopped("The server can generate no more text; it has to be restarted."))

    def _next_rows(self) -> list[Generation]:
        """The rows of the next step, none when there is to be none any more."""
        with self._work:
            while not self._stopping:
                if rows := self._scheduler.admit():
                    return rows
                self._work.wait()
        return []

    def _step(self, rows: list[Generation]) -> None:
        try:
            events = [(row, row.accept(token)) for row, token in self._batch.step(rows)]
        except Exception:
            self._fail(rows)
            return
        finished = [row for row, piece in events if piece.finish_reason is not None]
        if finished:
            with self._work:
                self._scheduler.remove(finished)
        self._hand_over(_deliver, events)

    def _fail(self, rows: list[Generation]) -> None:
        """Give up the rows of a step that raised, and begin the next with a clean batch."""
        logger.exception("A step of %d texts failed; their requests end with an error, the others go on.", len(rows))
        self._batch = Batch(self._decoder)
        with self._work:
            self._scheduler.remove(rows)
        self._hand_over(_report, rows)

    def _hand_over(self, receive: Callable[[Events], None], events: Events) -> None:
        """Let the event loop's thread run `receive(events)`: all of a step at once, not a call per character."""
        self._loop.call_soon_threadsafe(receive, events)

    def _die(self, error: ServiceError) -> None:
        self._refusal = error
        self.abandon(error)


def _deliver(events: list[Event]) -> None:
    for row, piece in events:
        if piece.text or piece.finish_reason is not None:
            row.request.output.put(row.choice, piece)


def _report(rows: list[Generation]) -> None:
    for request in {row.request for row in rows}:
        request.output.fail(StepFailed("The server failed in the middle of this text; it has been logged. Try again."))
