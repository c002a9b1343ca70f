"""Processes that take training steps when they are told to, alone or together, for benchmarks to time."""

import ctypes
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from tests.piped import piped

SEQUENCES, CHARACTERS, VOCABULARY = 32, 64, 320
NEW_NETWORK = 0x40000000  # CLONE_NEWNET of setns(2)
PATIENCE = 120  # seconds until a worker that does not answer is given up


@dataclass(frozen=True)
class Steps:
    """Steps to take: how many, windows of each, and how gradients travel."""

    count: int
    accumulate: int = 1
    compression: str = "none"


@dataclass(frozen=True)
class Place:
    """Where a worker is among others. namespace: of the network, None for that of the benchmark."""

    number: int = 0
    count: int = 1
    address: str = "127.0.0.1"
    port: int = 0
    namespace: str | None = None
    interface: str = "lo"


def work(commands: Connection, place: Place, hidden: int, threads: int) -> None:
    """What a worker does: take steps for every command and answer with the characters read, until there is none."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if place.namespace is not None:
        descriptor = os.open(Path("/run/netns") / place.namespace, os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "setns")
    os.environ |= {
        "RANK": str(place.number),
        "WORLD_SIZE": str(place.count),
        "MASTER_ADDR": place.address,
        "MASTER_PORT": str(place.port),
        "GLOO_SOCKET_IFNAME": place.interface,
    }
    _take_steps(commands, hidden, threads)


def _take_steps(commands: Connection, hidden: int, threads: int) -> None:
    import torch

    from model.config import NetworkConfig
    from training.allocator import keep_buffers
    from training.data.batches import Batches
    from training.distributed.environment import joined
    from training.loop.learner import Learner
    from training.planning.config import TrainingConfig
    from training.planning.machine import faster_precision

    keep_buffers()
    torch.set_num_threads(1)
    device = torch.device("cpu")
    network = NetworkConfig(cell="lstm", layers=2, hidden=hidden, embedding=64, vocabulary=VOCABULARY, skip=True)
    ids = np.random.default_rng(1).integers(VOCABULARY, size=1 << 20).astype(np.uint16)
    batches = Batches(ids, SEQUENCES, CHARACTERS, seed=1)
    with joined() as ranks:
        learners = {}
        commands.send(0)
        while (steps := commands.recv()) is not None:
            if steps.compression not in learners:
                config = TrainingConfig(
                    network=network,
                    batch_size=SEQUENCES,
                    sequence_length=CHARACTERS,
                    precision=faster_precision(device),
                    threads=threads,
                    compression=steps.compression,
                    epochs=1,
                )
                learners[steps.compression] = Learner(config, device, ranks)
            for _ in range(steps.count):
                window, *more = [batches.next() for _ in range(steps.accumulate)]
                learners[steps.compression].learn(window, 1e-3, more=more, asides=(0.0, 0.0))
            commands.send(steps.count * steps.accumulate * SEQUENCES * CHARACTERS)


class Workers:
    """Workers that take the same steps at the same time."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes
        self._wait()

    def take(self, steps: Steps) -> float:
        """Characters a second, all sequences of the batch counted once."""
        start = time.perf_counter()
        for pipe in self._pipes:
            pipe.send(steps)
        return self._wait() / (time.perf_counter() - start)

    def _wait(self) -> int:
        read = 0
        for pipe in self._pipes:
            if not pipe.poll(PATIENCE):
                raise TimeoutError("a worker of the benchmark does not answer; run it again")
            read = pipe.recv()
        return read


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def workers(places: Sequence[Place], hidden: int, threads: int = 1) -> Iterator[Workers]:
    """Start a worker at each place, and end them."""
    with piped(work, [(place, hidden, threads) for place in places]) as pipes:
        yield Workers(pipes)
