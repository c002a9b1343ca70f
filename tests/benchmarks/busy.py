"""Training and evaluation beside other processes that want the cores: threads that share rows, and OpenMP's."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from model.config import NetworkConfig
from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import CORES, ratio
from training.allocator import keep_buffers
from training.data.batches import Batches
from training.evaluation.network_reader import network_reader
from training.loop.learner import Learner
from training.planning.config import TrainingConfig
from training.planning.machine import faster_precision

ROUNDS = 7
SECONDS = 0.8  # of each side in each round, at least
OTHERS = (0, 1, 2)  # busy processes
TARGETS = {1: 0.5, 2: 0.35}  # of the speed on a quiet machine that must be left
LARGER = (320, 512)  # units of networks that are measured on a quiet machine alone
VOCABULARY, BATCH_SIZE, SEQUENCE_LENGTH = 320, 32, 64
EVALUATED = (64, 128)  # sequences and ids of a window
CPU = torch.device("cpu")

Step = Callable[[], int]
"""Reads some characters, and says how many."""


def speed(step: Step) -> float:
    """Characters a second, over some steps after one to warm up."""
    step()
    characters, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < SECONDS:
        characters += step()
    return characters / seconds


def learning_steps(config: TrainingConfig) -> tuple[Step, Step]:
    """A step of training as it is, and one whose kernels have OpenMP's threads."""
    ids = np.random.default_rng(1).integers(VOCABULARY, size=200_000)
    batches = Batches(ids, BATCH_SIZE, SEQUENCE_LENGTH, seed=1)
    shared, former = Learner(config, CPU), Learner(config, CPU)

    def learn() -> int:
        window = batches.next()
        shared.learn(window, 1e-3)
        return window.inputs.size

    def learn_formerly() -> int:
        window = batches.next()
        inputs, targets = torch.from_numpy(window.inputs), torch.from_numpy(window.targets)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            logits, _ = former.network(inputs)
        loss = F.cross_entropy(logits.transpose(0, 1).float().flatten(0, 1), targets.t().flatten())
        former.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(former.network.parameters(), config.max_grad_norm)
        former.optimiser.step()
        return inputs.numel()

    return learn, learn_formerly


def reading_steps(config: TrainingConfig) -> tuple[Step, Step]:
    """A window of evaluation as it is read, and as OpenMP's threads read it."""
    network = Learner(config, CPU).network
    read = network_reader(network)
    places = np.arange(EVALUATED[0])[:, None] * 7 + np.arange(EVALUATED[1] + 1)
    ids = places % VOCABULARY

    def evaluate() -> int:
        read(ids[:, :-1], ids[:, 1:], None)
        return EVALUATED[0] * EVALUATED[1]

    def evaluate_formerly() -> int:
        with torch.no_grad():
            logits, _ = network(torch.from_numpy(ids[:, :-1]))
            F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(ids[:, 1:]).flatten(), reduction="sum").item()
        return EVALUATED[0] * EVALUATED[1]

    return evaluate, evaluate_formerly


def make_config(hidden: int) -> TrainingConfig:
    """Two layers, as plans have them."""
    network = NetworkConfig(layers=2, hidden=hidden, embedding=64, vocabulary=VOCABULARY, skip=True)
    return TrainingConfig(network=network, precision=faster_precision(CPU), threads=len(CORES), epochs=1)


@contextmanager
def busy_process() -> Iterator[None]:
    """A process that wants a core all the time."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure() -> list[Figure]:
    """A 2 × 192 LSTM, as half a minute on a list of names plans it; every round quiet, beside one and beside two."""
    keep_buffers()
    config = make_config(192)
    figures = []
    for name, (shared, former) in {"training": learning_steps(config), "evaluation": reading_steps(config)}.items():
        found: dict[tuple[int, str], list[float]] = {(n, side): [] for n in OTHERS for side in ("shared", "former")}
        for _ in range(ROUNDS):
            with ExitStack() as stack:
                for others in OTHERS:
                    if others:
                        stack.enter_context(busy_process())
                    found[others, "shared"].append(speed(shared))
                    found[others, "former"].append(speed(former))
        figures += _figures(name, found)
    for hidden in LARGER:
        steps = learning_steps(make_config(hidden))
        quiet, formerly = zip(*([speed(step) for step in steps] for _ in range(ROUNDS)), strict=True)
        name = f"training, quiet, 2 × {hidden}: threads that share rows / OpenMP's"
        figures.append(Figure(name, ratio(quiet, formerly), "×", 1.0))
    return figures


def _figures(name: str, found: dict[tuple[int, str], list[float]]) -> list[Figure]:
    quiet, formerly = found[0, "shared"], found[0, "former"]
    figures = [
        Figure(f"{name}, quiet", max(quiet), "characters/s"),
        Figure(f"{name}, quiet: threads that share rows / OpenMP's", ratio(quiet, formerly), "×", 1.0),
    ]
    for others, target in TARGETS.items():
        beside = f"{name} beside {others} busy process{'es' if others > 1 else ''}"
        figures += [
            Figure(f"{beside} / quiet", ratio(found[others, "shared"], found[0, "shared"]), "×", target),
            Figure(f"{beside} / quiet, OpenMP's", ratio(found[others, "former"], found[0, "former"]), "×"),
        ]
    return figures
