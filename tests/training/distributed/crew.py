"""Processes that do the same work together, each as one rank, for tests that compare them with one process."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from tests.piped import piped
from tests.ports import free_port

PATIENCE = 250  # seconds until a process that does not answer fails the test


def serve(pipe: Connection) -> None:
    """What a process does: join the others, do a piece of work, answer with what it returns; again and again."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch.distributed as dist

    from training.distributed.environment import joined

    while (job := pipe.recv()) is not None:
        environment, function, arguments = job
        os.environ |= environment
        try:
            with joined(environment) as ranks:
                pipe.send(function(ranks, *arguments))
        except Exception as error:
            if dist.is_initialized():  # which an error leaves, as the program ends with it
                dist.destroy_process_group()
            pipe.send(error)


class Crew:
    """A few processes that stay for several pieces of work."""

    def __init__(self, pipes: list[Connection]) -> None:
        self._pipes = pipes

    def do(self, function: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Any]:
        """What `function(ranks, *arguments)` returns in each of `count` processes, or the exception it raised."""
        port = free_port()
        for number, pipe in enumerate(self._pipes[:count]):
            environment = {"RANK": number, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment |= {"LOCAL_RANK": number, "LOCAL_WORLD_SIZE": count}
            pipe.send(({name: str(value) for name, value in environment.items()}, function, arguments))
        answers = []
        for pipe in self._pipes[:count]:
            assert pipe.poll(PATIENCE), "a process does not answer"
            answers.append(pipe.recv())
        return answers

    def do_all(self, function: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Any]:
        """The same; the first exception is raised."""
        answers = self.do(function, *arguments, count=count)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


@contextmanager
def made(count: int) -> Iterator[Crew]:
    """Start so many processes, and end them."""
    with piped(serve, [()] * count) as pipes:
        yield Crew(pipes)
