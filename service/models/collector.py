"""Gives back the memory of models that are served no more, once their last texts have ended."""

import asyncio
import ctypes
import gc
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress

from service.engine.sequence import EngineModel

PAUSES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # seconds before each try


class Collector:
    """Runs the collector of cycles when a model may be free: a group of texts and its texts refer to each other, and to
    their model. For the event loop's thread; the work is done in one of `threads`.
    """

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._leaving: set[weakref.ref[EngineModel]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._tries = 0
        self._stopped = False
        self.trim = trimmer()
        """Gives memory that was freed back to the machine; in any thread."""

    def collect(self, model: EngineModel) -> None:
        """Give back the memory of a model once its last text has ended."""
        self._leaving.add(weakref.ref(model))
        model.on_idle = self._soon
        if not model.groups:
            self._soon()

    def stop(self) -> None:
        """Try no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _soon(self) -> None:
        self._tries = 0
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._stopped and self._tries < len(PAUSES):
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # at the start, before there is one
                return
            self._timer = loop.call_later(PAUSES[self._tries], self._try, loop)
            self._tries += 1

    def _try(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if any(one is not None and not one.groups for one in (leaving() for leaving in self._leaving)):
            loop.run_in_executor(self._threads, gc.collect).add_done_callback(self._done)
        else:
            self._leaving = {leaving for leaving in self._leaving if leaving() is not None}
            loop.run_in_executor(self._threads, self.trim)

    def _done(self, future: "asyncio.Future[int]") -> None:
        if not future.cancelled():
            self._wait()


def trimmer() -> Callable[[], object]:
    """What gives memory that was freed back to the machine, where the C library keeps it; elsewhere nothing."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            trim = ctypes.CDLL(None).malloc_trim
            return lambda: trim(0)
    return lambda: None
