"""Two cores: engine threads of one process against processes of their own, with the same 64 rows in all."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from statistics import median

from model.checkpoint import BUNDLED, load
from tests.benchmarks.engine import EngineAlone, engine_alone
from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import ratio, side_by_side
from tests.piped import piped

ROWS, CHARACTERS = 64, 1000
PROCESSES = 2


def work(commands: Connection) -> None:
    """What a process does: write its share of the rows for every command, until there is none."""
    with engine_alone(load(BUNDLED)) as engine:
        commands.send(True)
        while commands.recv():
            engine.write(ROWS // PROCESSES, CHARACTERS)
            commands.send(True)


class Workers:
    """Processes that each have an engine of one thread."""

    def __init__(self, pipes: list[Connection]) -> None:
        self._pipes = pipes
        self._wait()

    def write(self) -> float:
        """Seconds until all have written their share."""
        start = time.perf_counter()
        for pipe in self._pipes:
            pipe.send(True)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        for pipe in self._pipes:
            if not pipe.poll(60):
                raise TimeoutError("a process of the benchmark does not answer; run it again")
            pipe.recv()


@contextmanager
def workers() -> Iterator[Workers]:
    """Start the processes, and end them."""
    with piped(work, [()] * PROCESSES) as pipes:
        yield Workers(pipes)


def measure() -> list[Figure]:
    """Side by side: one thread, two threads, two processes; without HTTP, so with nothing shared but the machine."""
    checkpoint = load(BUNDLED)

    def write(engine: EngineAlone) -> float:
        return engine.write(ROWS, CHARACTERS)

    with engine_alone(checkpoint) as one, engine_alone(checkpoint, threads=2) as two, workers() as processes:
        single, threads, apart = side_by_side([lambda: write(one), lambda: write(two), processes.write], 7)
    characters = ROWS * CHARACTERS
    return [
        Figure("engine, 64 rows, 1 thread", characters / median(single), "characters/s"),
        Figure("engine, 64 rows, 2 threads", characters / median(threads), "characters/s"),
        Figure("engine, 64 rows, 2 processes", characters / median(apart), "characters/s"),
        Figure("2 threads against 1", ratio(single, threads), "×"),
        Figure("2 processes against 1 thread", ratio(single, apart), "×"),
    ]
