"""A training step in bf16 whose products are done in tiles (AMX), beside the same step without."""

import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch

import training.lstm_window
from model.config import NetworkConfig
from tests.benchmarks.figures import Figure, counted
from tests.benchmarks.timing import ratio, side_by_side
from training.allocator import keep_buffers
from training.data.batches import Batches
from training.loop.learner import Learner
from training.planning.config import TrainingConfig
from training.planning.regularisation import Regularisation
from training.row_threads import default_threads

ROUNDS = 9
STEPS = 4  # of one side before it is the other's turn
NETWORKS = ((2, 192, 64), (2, 512, 48))  # layers, hidden, embedding; the last is that of the bundled model
REGULARISATION = Regularisation(
    input_dropout=0.1, layer_dropout=0.4, output_dropout=0.5, weight_drop=0.4, drop_state=0.02
)
VOCABULARY, BATCH_SIZE, SEQUENCE_LENGTH = 321, 32, 64
CPU = torch.device("cpu")


def steps(learner: Learner, batches: Batches, tiles: bool) -> Callable[[], float]:
    """Milliseconds of a step, of all cores together."""

    def run() -> float:
        with patch.object(training.lstm_window, "has_tiles", lambda: tiles):
            start = time.process_time()
            for _ in range(STEPS):
                learner.learn(batches.next(), 1e-3)
            return (time.process_time() - start) / STEPS * 1e3

    return run


def measure() -> list[Figure]:
    """Of the processor's time, which other processes disturb least; nothing where there are no tiles."""
    if not training.lstm_window.has_tiles():
        return []
    keep_buffers()
    ids = np.random.default_rng(1).integers(256, VOCABULARY, size=200_000)
    figures = []
    for layers, hidden, embedding in NETWORKS:
        network = NetworkConfig(
            layers=layers, hidden=hidden, embedding=embedding, vocabulary=VOCABULARY, skip=layers > 1
        )
        for threads in sorted({1, default_threads(BATCH_SIZE)}):
            config = TrainingConfig(
                network=network,
                regularisation=REGULARISATION,
                batch_size=BATCH_SIZE,
                sequence_length=SEQUENCE_LENGTH,
                epochs=1,
                threads=threads,
                precision="bf16",
            )
            learner, batches = Learner(config, CPU), Batches(ids, BATCH_SIZE, SEQUENCE_LENGTH, seed=1)
            without, tiles = side_by_side([steps(learner, batches, on) for on in (False, True)], ROUNDS)
            name = f"step of {layers} × {hidden} in tiles, {counted(threads, 'thread')}"
            figures.append(Figure(name, min(tiles), "ms of processor time"))
            figures.append(Figure(f"{name}: without / with", ratio(without, tiles), "×", 1.0))
    return figures
