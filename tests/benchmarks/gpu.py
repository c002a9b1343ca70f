"""Training on a GPU: characters a second of three layers of 512, and what the preset makes of Shakespeare."""

import os
import tempfile
import time
from pathlib import Path

import torch

from model.checkpoint import load
from model.command_line.console import TerminalConsole
from model.config import NetworkConfig
from tests.benchmarks.figures import Figure
from tests.benchmarks.learning import corpus
from training.data.batches import Batches
from training.loop.learner import Learner
from training.planning.config import TrainingConfig
from training.planning.presets import PRESETS
from training.planning.train_options import PlanOverrides, TrainOptions
from training.run import run

SHAKESPEARE = Path(os.environ.get("BENCHMARK_SHAKESPEARE", "../shared/corpora/tinyshakespeare.txt"))
BATCH_SIZE, SEQUENCE_LENGTH = 256, 128
STEPS = 100


def speed(device: torch.device) -> float:
    """Characters a second of whole steps, the device waited for once at the end."""
    tokenizer, parts = corpus()
    network = NetworkConfig(layers=3, hidden=512, embedding=128, vocabulary=tokenizer.size)
    config = TrainingConfig(
        network=network, batch_size=BATCH_SIZE, sequence_length=SEQUENCE_LENGTH, precision="bf16", epochs=1
    )
    learner, batches = Learner(config, device), Batches(parts.train, BATCH_SIZE, SEQUENCE_LENGTH, 1)
    for timed in (False, True):  # once to warm up
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(STEPS):
            learner.learn(batches.next(), 1e-3)
        torch.cuda.synchronize()
        if timed:
            return STEPS * BATCH_SIZE * SEQUENCE_LENGTH / (time.perf_counter() - start)
    raise AssertionError


def preset() -> list[Figure]:
    """The figures in the card of a run of the preset; nothing where the text is missing."""
    if not SHAKESPEARE.exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        overrides = PlanOverrides(**PRESETS["gpu"])
        options = TrainOptions(
            corpus=(str(SHAKESPEARE),), overrides=overrides, out=Path(folder) / "run", split="nanogpt"
        )
        run(options, TerminalConsole(stderr=True), time.monotonic())
        figures = load(Path(folder) / "run" / "best").training["figures"]
    wanted = {"validation and test": None, "validation and test, cold": 1.43}
    return [
        Figure(f"preset gpu on Shakespeare: {part}", figures[part]["nats_per_character"], "nats", target, "most")
        for part, target in wanted.items()
    ]


def measure() -> list[Figure]:
    """Run by name alone: `python -m tests.benchmarks gpu`; nothing without a CUDA device."""
    if not torch.cuda.is_available():
        TerminalConsole(stderr=True).print("There is no CUDA device here, so nothing was measured.")
        return []
    reached = speed(torch.device("cuda"))
    return [Figure("training, 3 × 512 LSTM on a GPU", reached, "characters/s", 500_000), *preset()]
