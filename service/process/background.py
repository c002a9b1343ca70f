"""One thread for work that would block the event loop, one step of each caller's work in turn."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Hashable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from model.errors import ServiceError
from service.errors import EngineStopped, QueueFull
from service.process.turns import Turns

logger = logging.getLogger(__name__)

# How much lower the priority of a thread is than the event loop's (nice). A thread uses all the time it gets, so if
# both share a core, short requests would otherwise wait for it.
NICE = 10
SWITCH_SECONDS = 0.00025  # for which a thread keeps Python's lock (GIL) while others want it
MOST_WORK = 1024  # pieces of work that may wait; the memory of each is charged to the ledger
MEMORY_SECONDS = 0.02  # between two attempts while there is no memory

Result = TypeVar("Result")
Steps = Generator[None, None, Result]
"""Work that pauses after each step, which takes some milliseconds; its result is what the generator returns."""


class _Work:
    """Some work and the future of its result."""

    __slots__ = ("future", "steps")

    def __init__(self, steps: Steps[Any], future: asyncio.Future[Any]) -> None:
        self.steps, self.future = steps, future


class Background:
    """Does work in a separate thread, so that the event loop is not blocked.

    Callers take turns, one step each; each caller's work is done in order of arrival. Work whose future is cancelled,
    because its client has disconnected, its time is over or the server stops, ends after its current step. One thread
    is enough, as Python runs only one at a time.

    rests: whether the thread pauses after a step of a caller, for as long as the step took; otherwise, on a single
    core, it would take half of the time in which others' texts are generated. pause: waits for some seconds.
    """

    def __init__(
        self, rests: Callable[[Hashable], bool] | None = None, pause: Callable[[float], object] | None = None
    ) -> None:
        self._rests = rests
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._turns: Turns[_Work] = Turns()
        self._changed = threading.Condition()
        self._open: set[asyncio.Future[Any]] = set()
        self._refusal: ServiceError | None = EngineStopped("The server has not started; try again in a moment.")
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; results are delivered in `loop`."""
        self._loop, self._refusal = loop, None
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current step, and fail all work; does not wait."""
        self._refusal = EngineStopped("The server has stopped.")
        self.abandon(self._refusal)
        self._stopped.set()
        with self._changed:
            self._turns.clear()
            self._changed.notify()

    def abandon(self, error: ServiceError) -> None:
        """Fail all waiting and running work with an error."""
        for future in self._open:
            if not future.done():
                future.set_exception(error)

    @property
    def waiting(self) -> int:
        """The number of unfinished pieces of work."""
        return len(self._open)

    async def finish(self, steps: Steps[Result], caller: Hashable = None, deadline: float | None = None) -> Result:
        """The result of some work, or what it raised.

        deadline: by `time.monotonic`; raises TimeoutError after it. Raises QueueFull if too much work waits, and
        EngineStopped.
        """
        if len(self._open) >= MOST_WORK:
            raise QueueFull("Too many large requests are being prepared; try again in a moment.")
        async with asyncio.timeout_at(deadline):
            return await self._add(steps, caller)

    async def do(self, call: Callable[[], Result], caller: Hashable = None) -> Result:
        """The result of one call, or what it raised. It is for requests that were already accepted, so it is never
        refused because too much work waits."""
        return await self._add(one_step(call), caller)

    async def elsewhere(self, work: Coroutine[Any, Any, Result], deadline: float | None = None) -> Result:
        """The result of work that waits for something else; it is ended like other work. Raises as `finish` does."""
        task = asyncio.ensure_future(work)
        if self._refusal is not None:
            task.cancel()
            raise self._refusal.with_traceback(None)
        future = self._loop.create_future()
        self._open.add(future)
        task.add_done_callback(lambda done: _copy(done, future))
        try:
            async with asyncio.timeout_at(deadline):
                result: Result = await future
                return result
        finally:
            self._open.discard(future)
            task.cancel()

    async def each(self, parts: Iterator[Result], caller: Hashable = None) -> AsyncIterator[Result]:
        """The parts, each made on demand."""
        end = object()
        while (part := await self.do(lambda: next(parts, end), caller)) is not end:
            yield part  # type: ignore[misc]

    async def _add(self, steps: Steps[Result], caller: Hashable) -> Result:
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)
        future = self._loop.create_future()
        self._open.add(future)
        try:
            with self._changed:
                self._turns.add(caller, _Work(steps, future))
                self._changed.notify()
            result: Result = await future
            return result
        finally:
            self._open.discard(future)

    def _run(self) -> None:
        stand_back()
        while (turn := self._next()) is not None:
            caller, began = turn[0], time.thread_time()
            self._step(*turn)
            del turn  # so that its memory is freed while the thread waits
            if self._rests is not None and self._rests(caller):
                self._pause(time.thread_time() - began)

    def _next(self) -> tuple[Hashable, _Work] | None:
        with self._changed:
            while not self._turns:
                if isinstance(self._refusal, EngineStopped):
                    return None
                self._changed.wait()
            return self._turns.take()

    def _step(self, caller: Hashable, work: _Work) -> None:
        if work.future.done():
            return
        try:
            next(work.steps)
        except StopIteration as end:
            self._tell(work.future, end.value, None)
        except BaseException as error:
            self._tell(work.future, None, error.with_traceback(None) if isinstance(error, MemoryError) else error)
        else:
            with self._changed:
                self._turns.add(caller, work, first=True)

    def _tell(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """Pass a result to the event loop; without memory for that, try again in a moment."""
        while not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(_settle, future, result, error)
            except MemoryError:
                time.sleep(MEMORY_SECONDS)
            except RuntimeError:  # it has just been closed
                return
            else:
                return


def _copy(task: "asyncio.Task[Any]", future: asyncio.Future[Any]) -> None:
    """Copy the result of a task."""
    if task.cancelled():
        future.cancel()
    else:
        error = task.exception()
        _settle(future, None if error else task.result(), error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def one_step(call: Callable[[], Result]) -> Steps[Result]:
    """One call as work of one step."""
    yield from ()
    return call()


def stand_back() -> None:
    """Lower the priority of this thread below the event loop's; only on Linux, where each thread has a priority."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(PermissionError):  # a sandbox may forbid it; then short requests wait a little longer
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
