"""Threads that read models: as many as allowed, every call answered, and none held back by the end of the process."""

import subprocess
import sys
import threading
from concurrent.futures import wait

import pytest

from service.models.reading_threads import ReadingThreads
from tests.service.serving import REPOSITORY


def test_calls_are_answered_by_no_more_threads_than_allowed() -> None:
    threads, together, names = ReadingThreads(3), threading.Barrier(3), set[str]()

    def call(number: int) -> int:
        names.add(threading.current_thread().name)
        if number < 3:
            together.wait(20)  # three run at once
        if number == 5:
            raise ValueError("five")
        return number

    futures = [threads.submit(call, number) for number in range(30)]
    wait(futures, 20)
    assert [future.result() for future in futures if futures.index(future) != 5] == [*range(5), *range(6, 30)]
    with pytest.raises(ValueError, match="five"):
        futures[5].result()
    assert names == {"models-0", "models-1", "models-2"}
    threads.shutdown(wait=True)


def test_what_waits_is_cancelled_by_a_shutdown() -> None:
    threads, began, go = ReadingThreads(1), threading.Event(), threading.Event()

    def call() -> bool:
        began.set()
        return go.wait(20)

    running, waiting = threads.submit(call), threads.submit(int, "1")
    assert began.wait(20)
    threads.shutdown()
    go.set()
    assert running.result()
    assert waiting.cancelled()


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    code = """
import threading
from service.models.reading_threads import ReadingThreads
ReadingThreads(1).submit(threading.Event().wait)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=30, check=False)
    assert done.returncode == 0
