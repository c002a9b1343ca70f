"""Threads that read models: few at once, below the event loop's priority, and none keeps the process from ending."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any

from service.process.background import stand_back

Call = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ReadingThreads(Executor):
    """Calls functions in at most `count` threads, which are started as they are needed.

    Unlike those of the standard library they are not waited for when the process ends: a disk may keep one for ever.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._open = 0  # calls that wait or run
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Have a function called; in any thread."""
        future: Future[Any] = Future()
        with self._lock:
            self._open += 1
            if len(self._threads) < min(self._open, self._count):
                thread = threading.Thread(target=self._run, name=f"models-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._calls.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:
        """End the threads after their current calls; what waits is not called any more."""
        while cancel_futures and not self._calls.empty():
            if (call := self._calls.get()) is not None:
                call[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _run(self) -> None:
        stand_back()
        while (call := self._calls.get()) is not None:
            future, function, given, named = call
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*given, **named))
                except BaseException as error:
                    future.set_exception(error)
            del call, future, function, given, named  # what they hold must not stay while the thread waits
            with self._lock:
                self._open -= 1
