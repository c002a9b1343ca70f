"""Processes that are told what to do through a pipe each, for tests and benchmarks that need several."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any


@contextmanager
def piped(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> Iterator[list[Connection]]:
    """Our ends of the pipes of new processes, one for each tuple of arguments, until the end of a `with` block.

    Each process calls `work` with its end and its arguments, and is killed at the end.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for given in arguments:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, *given), daemon=True)
            process.start()
            pipes.append(ours)
            processes.append(process)
        yield pipes
    finally:
        for process in processes:
            process.kill()
            process.join()
