"""Processes that take training steps when they are told to, alone or together, for benchmarks to time."""

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tests.piped import piped

if TYPE_CHECKING:
    from training.distributed.ranks import Ranks
    from training.loop.learner import Learner

Compression = Literal["none", "bf16"]

SEQUENCES, CHARACTERS, VOCABULARY = 32, 64, 320
BYTES = 256  # of the vocabulary
FIRST = ord("0")  # of the characters
MEASURED = 1 << 18  # characters, of which a quarter validates and a quarter tests, in four sequences each
NEW_NETWORK = 0x40000000  # CLONE_NEWNET of setns(2)
PATIENCE = 120  # seconds until a worker that does not answer is given up


@dataclass(frozen=True)
class Steps:
    """Steps to take: how many, windows of each, and how gradients travel."""

    count: int
    accumulate: int = 1
    compression: Compression = "none"


@dataclass(frozen=True)
class Measuring:
    """A run to measure. folder: of the first process, for the checkpoint."""

    folder: Path


@dataclass(frozen=True)
class Exchange:
    """Gradients to add up: how often, and whether by sockets where memory could be shared."""

    count: int
    sockets: bool


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
    """What a worker does: take steps, or measure, for every command and answer with what was read, until none comes."""
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
        "LOCAL_RANK": "0" if place.namespace else str(place.number),
        "LOCAL_WORLD_SIZE": "1" if place.namespace else str(place.count),
        "GLOO_SOCKET_IFNAME": place.interface,
    }
    _answer(commands, hidden, threads)


def _answer(commands: Connection, hidden: int, threads: int) -> None:
    import torch

    from training.allocator import keep_buffers
    from training.distributed.environment import joined

    keep_buffers()
    torch.set_num_threads(1)
    with joined() as ranks:
        worker = _Worker(ranks, hidden, threads)
        commands.send(0)
        while (command := commands.recv()) is not None:
            commands.send(worker.do(command))


class _Worker:
    """One of the processes, with what it needs for steps and for figures."""

    def __init__(self, ranks: "Ranks", hidden: int, threads: int) -> None:
        import torch

        from model.config import NetworkConfig
        from training.data.batches import Batches
        from training.planning.config import TrainingConfig
        from training.planning.machine import faster_precision

        self._ranks, self._device = ranks, torch.device("cpu")
        self._ids = (BYTES + np.random.default_rng(1).integers(VOCABULARY - BYTES, size=1 << 20)).astype(np.uint16)
        self._batches = Batches(self._ids, SEQUENCES, CHARACTERS, seed=1)
        self._learners: dict[Compression, Learner] = {}
        self._config = TrainingConfig(
            network=NetworkConfig(cell="lstm", layers=2, hidden=hidden, embedding=64, vocabulary=VOCABULARY, skip=True),
            batch_size=SEQUENCES,
            sequence_length=CHARACTERS,
            precision=faster_precision(self._device),
            threads=threads,
            epochs=1,
        )

    def do(self, command: Steps | Measuring | Exchange) -> int:
        """What a command asks for; returns how much was read, or added up."""
        if isinstance(command, Measuring):
            return self.measure(command)
        return self.exchange(command) if isinstance(command, Exchange) else self.take(command)

    def exchange(self, exchange: Exchange) -> int:
        """Add up numbers, as many as a gradient has; returns how often."""
        import torch

        from training.distributed.shared_rows import shared_rows

        row = torch.zeros(self._config.network.parameters())
        shared = None if exchange.sockets else shared_rows(self._ranks, len(row))
        for _ in range(exchange.count):
            if shared is None:
                self._ranks.sum(row)
            else:
                shared.sum()
        return exchange.count

    def take(self, steps: Steps) -> int:
        """Take steps; returns the characters read by all."""
        from training.loop.learner import Learner

        if steps.compression not in self._learners:
            config = replace(self._config, compression=steps.compression)
            self._learners[steps.compression] = Learner(config, self._device, self._ranks)
        for _ in range(steps.count):
            window, *more = [self._batches.next() for _ in range(steps.accumulate)]
            self._learners[steps.compression].learn(window, 1e-3, more=more, asides=(0.0, 0.0))
        return steps.count * steps.accumulate * SEQUENCES * CHARACTERS

    def measure(self, measuring: Measuring) -> int:
        """Measure a run of an untrained network; returns the characters of the cold windows there was time for."""
        from model.checkpoint import Checkpoint, save
        from model.network import Network, to_tensors
        from model.text.tokenizer import Tokenizer
        from training.data.split import split
        from training.loop.finished_run import FinishedRun
        from training.measurement import measure

        parts = split(self._ids[:MEASURED], "50/25/25")
        if self._ranks.first:
            tokenizer = Tokenizer.learn(["".join(map(chr, range(FIRST, FIRST + VOCABULARY - BYTES)))])
            tensors = to_tensors(Network(self._config.network))
            best = Checkpoint(config=self._config.network, tokenizer=tokenizer, tensors=tensors)
            save(best, measuring.folder / "best")
        run = FinishedRun(
            folder=measuring.folder,
            config=self._config,
            split=parts,
            device=self._device,
            dtype="float32",
            step=1,
            best_step=1,
            validations=(),
            elapsed=0.0,
            seconds=0.0,
            stale=0,
            stopped_early=False,
        )
        return measure(run, len(parts.validation), self._ranks).figures["test, cold"].characters


class Workers:
    """Workers that do the same at the same time."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes
        self._wait()

    def take(self, steps: Steps) -> float:
        """Characters a second, all sequences of the batch counted once."""
        read, seconds = self._do(steps)
        return read / seconds

    def measure(self, folder: Path) -> tuple[int, float]:
        """Characters of the cold windows for which there was time, and the seconds that all figures took."""
        return self._do(Measuring(folder))

    def exchange(self, exchange: Exchange) -> float:
        """Seconds for one gradient."""
        count, seconds = self._do(exchange)
        return seconds / count

    def _do(self, command: Steps | Measuring | Exchange) -> tuple[int, float]:
        start = time.perf_counter()
        for pipe in self._pipes:
            pipe.send(command)
        return self._wait(), time.perf_counter() - start

    def _wait(self) -> int:
        read = 0
        for pipe in self._pipes:
            if not pipe.poll(PATIENCE):
                raise TimeoutError("a worker of the benchmark does not answer; run it again")
            read = pipe.recv()
        return read


@contextmanager
def workers(places: Sequence[Place], hidden: int, threads: int = 1) -> Iterator[Workers]:
    """Start a worker at each place, and end them."""
    with piped(work, [(place, hidden, threads) for place in places]) as pipes:
        yield Workers(pipes)
