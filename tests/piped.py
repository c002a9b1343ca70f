"""Processes that are told what to do through a pipe each, for tests and benchmarks."""

import multiprocessing
import subprocess
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


def answers_each_line(process: "subprocess.Popen[bytes]", lines: Sequence[bytes]) -> bool:
    """Whether a process answers each line with one that ends like it, before it is sent the next."""
    assert process.stdin is not None
    assert process.stdout is not None
    for line in lines:
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        if not process.stdout.readline().rstrip().endswith(line):  # where none comes, the test waits until it is ended
            return False
    return True
