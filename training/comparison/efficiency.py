"""What a cell costs: multiply-adds and state of a character, memory of training, characters a second."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.config import NetworkConfig, products
from model.decoding.decoder import Decoder
from model.network import Network, to_tensors
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from model.text.tokenizer import Tokenizer
from training.comparison.language_run import LanguageRun, Steps
from training.comparison.parts import Part
from training.comparison.sizes import Compared
from training.data.split import Split
from training.loop.learner import Learner
from training.loop.masked_forward import window_loss
from training.loop.masks import Mask, Masks

ROWS = (1, 32)
ROUNDS = 3  # of all cells in turn, so that a busy moment meets all of them; the best counts
ADAM_BYTES = 16  # a parameter: itself, its gradient and two moments, 4 bytes each


def efficiency(
    runs: Mapping[Compared, LanguageRun], parts: Split, counts: NDArray[np.int64], tokenizer: Tokenizer, seconds: float
) -> Part:
    """The figures of every cell. seconds: of all measuring of speeds, in about."""
    figures: dict[str, Any] = {}
    for cell, run in runs.items():
        network = run.network
        figures[cell] = {
            "parameters": network.parameters(),
            "hidden": network.hidden,
            "multiply_adds": products(network),
            "state_bytes": 4 * network.state_layout().floats,
            "training_bytes": training_bytes(network, run.batch_size, run.sequence_length),
        }
    speeds: dict[str, dict[str, float]] = {cell: {} for cell in runs}
    share = seconds / (ROUNDS * len(runs) * len(ROWS) * 2)
    learners = {(cell, rows): Steps(_of(run, rows), parts.train, counts) for cell, run in runs.items() for rows in ROWS}
    unseen = np.flatnonzero(counts == 0)
    decoders = {cell: Decoder(untrained(run.network, tokenizer, unseen)) for cell, run in runs.items()}
    for _ in range(ROUNDS):
        for cell in runs:
            for rows in ROWS:
                found = {
                    f"training_{rows}": _training_speed(learners[cell, rows], rows, share),
                    f"serving_{rows}": _serving_speed(decoders[cell], rows, share),
                }
                for name, speed in found.items():
                    speeds[cell][name] = max(speed, speeds[cell].get(name, 0.0))
    return {"figures": figures, "times": speeds}


def training_bytes(config: NetworkConfig, batch_size: int, sequence_length: int) -> int:
    """Memory of a training step in fp32, counted: weights, gradients, moments, and what is kept for the way back."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = Network(config)
    ids = torch.zeros((batch_size, sequence_length), dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = window_loss(network, ids, ids, None, Masks(between=[Mask()] * (config.layers - 1)))
    for weight in network.parameters():
        kept.pop(weight.untyped_storage().data_ptr(), None)
    del loss
    return ADAM_BYTES * config.parameters() + sum(kept.values())


def untrained(config: NetworkConfig, tokenizer: Tokenizer, unseen: NDArray[np.int64]) -> Checkpoint:
    """A checkpoint that has learnt nothing: as fast as any other of its shape. unseen: ids that are never drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Checkpoint(config=config, tokenizer=tokenizer, tensors=to_tensors(Network(config)), unseen=unseen)


def _of(run: LanguageRun, rows: int) -> LanguageRun:
    return LanguageRun(
        run.network, run.seed, run.precision, min(run.threads, rows), rows, run.sequence_length, 0, steps=1
    )


def _training_speed(steps: Steps, rows: int, seconds: float) -> float:
    """Characters a second of steps with so many sequences."""
    learner: Learner = steps.learner
    return _repeated(lambda: learner.learn(steps.batches.next(), 1e-4), rows * steps.batches.sequence_length, seconds)


def _serving_speed(decoder: Decoder, rows: int, seconds: float) -> float:
    """Characters a second that are drawn, by one thread, of so many texts at once."""
    slots = decoder.rows(rows)
    for slot in range(rows):
        slots.set(
            slot, RowSampling(SamplingParameters(seed=slot), decoder.ids, np.zeros(0, np.int64)), int(decoder.ids[0])
        )
    return _repeated(partial(slots.draw, range(rows), 64), rows * 64, seconds)


def _repeated(work: Any, characters: int, seconds: float) -> float:
    """Characters a second of a piece of work, repeated for so many seconds; the fastest counts."""
    work()
    ended, best = time.perf_counter() + seconds, np.inf
    while True:
        begun = time.perf_counter()
        work()
        now = time.perf_counter()
        best = min(best, now - begun)
        if now >= ended:
            return float(characters / best)
