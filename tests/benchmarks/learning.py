"""Training: the whole loop beside its bare steps, bf16 beside fp32 and the tutorials' loop, and what watching costs."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from model.config import NetworkConfig
from model.network import Network
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids
from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import mean_seconds, ratio, side_by_side
from training.allocator import keep_buffers
from training.data.corpus import Corpus
from training.data.sources import reference_prose
from training.data.split import Split, split
from training.loop.learner import make_optimiser
from training.loop.trainer import Trainer
from training.planning.config import TrainingConfig
from training.planning.machine import faster_precision
from training.planning.train_options import Precision
from training.row_threads import default_threads

ROUNDS = 9
STEPS = 8  # of one side before it is the other's turn
BATCH_SIZE, SEQUENCE_LENGTH = 32, 64
WATCHED_SECONDS = 60.0  # of a run whose checks and savings are timed; the shortest budget a user would think of
CPU = torch.device("cpu")


def corpus() -> tuple[Tokenizer, Split]:
    """The English reference prose every Python carries, as ids."""
    text = "".join(Corpus([reference_prose()]).blocks())
    tokenizer = Tokenizer.learn([text])
    return tokenizer, split(tokenizer.encode(text))


def make_config(vocabulary: int, precision: Precision, minutes: float = 60.0) -> TrainingConfig:
    """A layer of 512, as a budget of a few minutes plans it."""
    network = NetworkConfig(layers=1, hidden=512, embedding=128, vocabulary=vocabulary)
    return TrainingConfig(
        network=network,
        batch_size=BATCH_SIZE,
        sequence_length=SEQUENCE_LENGTH,
        precision=precision,
        threads=default_threads(BATCH_SIZE),
        minutes=minutes,
    )


def whole_loop(tokenizer: Tokenizer, parts: Split, folder: Path, precision: Precision) -> Callable[[], float]:
    """Seconds of one step of the trainer, everything but checks included."""
    trainer = Trainer(make_config(tokenizer.size, precision), tokenizer, parts, folder, [], device=CPU)
    return lambda: mean_seconds(lambda: trainer._step(0.5), STEPS)


def bare_step(vocabulary: int, ids: Ids, precision: Precision) -> Callable[[], float]:
    """Seconds of forward, backward and optimiser of the same network on one batch."""
    config = make_config(vocabulary, precision)
    network = Network(config.network)
    optimiser = make_optimiser(network, config)
    batch = torch.from_numpy(ids[: BATCH_SIZE * (SEQUENCE_LENGTH + 1)].astype(np.int64)).view(
        BATCH_SIZE, SEQUENCE_LENGTH + 1
    )
    inputs, targets = batch[:, :-1].contiguous(), batch[:, 1:].t().contiguous()

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits, _ = network(inputs)
        loss = F.cross_entropy(logits.transpose(0, 1).float().flatten(0, 1), targets.flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return lambda: mean_seconds(step, STEPS)


def tutorial_loop(vocabulary: int, ids: Ids) -> Callable[[], float]:
    """Seconds for as many characters as a step of ours has, read as tutorials do: one character at a time, batch 1."""
    embedding, cell, out = nn.Embedding(vocabulary, 128), nn.LSTMCell(128, 512), nn.Linear(512, vocabulary)
    weights = [*embedding.parameters(), *cell.parameters(), *out.parameters()]
    optimiser = torch.optim.Adam(weights, lr=1e-3)
    text = torch.from_numpy(ids[: SEQUENCE_LENGTH + 1].astype(np.int64))

    def window() -> None:
        state, loss = (torch.zeros(1, 512), torch.zeros(1, 512)), torch.zeros(())
        for at in range(SEQUENCE_LENGTH):
            state = cell(embedding(text[at : at + 1]), state)
            loss = loss + F.cross_entropy(out(state[0]), text[at + 1 : at + 2])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return lambda: BATCH_SIZE * mean_seconds(window, 1)


class WatchedTrainer(Trainer):
    """A trainer that adds up the seconds it spends on anything but steps."""

    spent = 0.0

    def _validate(self, progress: float, last: bool = False) -> None:
        start = time.perf_counter()
        super()._validate(progress, last)
        self.spent += time.perf_counter() - start

    def _save_state(self, name: str) -> None:
        start = time.perf_counter()
        super()._save_state(name)
        # What a check saves is part of that check.
        self.spent += 0.0 if name == "checked.safetensors" else time.perf_counter() - start


def watching(tokenizer: Tokenizer, parts: Split, folder: Path, precision: Precision) -> float:
    """The share of a short run that evaluation, sampling and saving take; of a longer one it is less."""
    config = make_config(tokenizer.size, precision, WATCHED_SECONDS / 60)
    trainer = WatchedTrainer(config, tokenizer, parts, folder, [], device=CPU)
    start = time.perf_counter()
    trainer.run()
    return trainer.spent / (time.perf_counter() - start)


def measure() -> list[Figure]:
    """On all cores, as training runs."""
    keep_buffers()
    tokenizer, parts = corpus()
    fast = faster_precision(CPU)
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            whole_loop(tokenizer, parts, Path(folder), fast),
            bare_step(tokenizer.size, parts.train, fast),
            bare_step(tokenizer.size, parts.train, "fp32"),
            tutorial_loop(tokenizer.size, parts.train),
        ]
        whole, bare, exact, tutorial = side_by_side(runs, ROUNDS)
        share = watching(tokenizer, parts, Path(folder) / "watched", fast)
    speed = BATCH_SIZE * SEQUENCE_LENGTH / min(whole)
    return [
        Figure("training, 1 × 512 LSTM, whole loop", speed, "characters/s"),
        Figure(f"whole loop / bare steps in {fast}", ratio(bare, whole), "×", 0.95),
        Figure(f"bare steps in {fast} / in fp32", ratio(exact, bare), "×"),
        Figure("whole loop / tutorial loop over single characters", ratio(tutorial, whole), "×"),
        Figure(f"evaluation, sampling and saving, of {WATCHED_SECONDS:g} s", share, "share", 0.05, "most"),
    ]
