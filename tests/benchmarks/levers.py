"""What each lever of training is worth on validation text: three seeds of every setting, median and range."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from model.text.tokenizer import Tokenizer
from tests.benchmarks.figures import Figure
from training.allocator import keep_buffers
from training.data.corpus import Corpus
from training.data.sources import FileSource
from training.data.split import Split, split
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import carried
from training.loop.trainer import Trainer
from training.planning.machine import faster_precision
from training.planning.plan import make_plan
from training.planning.train_options import PlanOverrides

CORPUS = Path(os.environ.get("BENCHMARK_LEVERS_CORPUS", "../shared/corpora/genesis-french.latin1.txt"))
ENCODING = os.environ.get("BENCHMARK_LEVERS_ENCODING", "latin-1")
EPOCHS = float(os.environ.get("BENCHMARK_LEVERS_EPOCHS", "16"))
HIDDEN = int(os.environ.get("BENCHMARK_LEVERS_HIDDEN", "256"))
SEEDS = (1, 2, 3)

BASE: dict[str, Any] = {
    "layers": 1, "hidden": HIDDEN, "embedding": 64, "input_dropout": 0.1, "layer_dropout": 0.3,
    "output_dropout": 0.3, "locked": True, "weight_drop": 0.0, "drop_state": 0.0, "batch_size": 32,
    "sequence_length": 64, "jitter": 0.0, "learning_rate": 4e-3, "warmup_steps": 50, "decay": "cosine",
    "weight_decay": 0.01, "average": 0.0,
    "fit_temperature": False, "epochs": EPOCHS,
}  # fmt: skip

LEVERS: dict[str, Mapping[str, Any]] = {
    "as it is": {},
    "no dropout": {"input_dropout": 0.0, "output_dropout": 0.0},
    "no input dropout": {"input_dropout": 0.0},
    "output dropout 0.5": {"output_dropout": 0.5},
    "a mask for each character": {"locked": False},
    "weight drop 0.2": {"weight_drop": 0.2},
    "weight drop 0.4": {"weight_drop": 0.4},
    "drop state 0.02": {"drop_state": 0.02},
    "jittered length, 4": {"jitter": 4.0},
    "two layers, no skip": {"layers": 2, "skip": False},
    "two layers, skip": {"layers": 2, "skip": True},
    "two layers, skip, no dropout between": {"layers": 2, "skip": True, "layer_dropout": 0.0},
    "average of the last fifth": {"average": 0.2},
    "linear decay": {"decay": "linear"},
    "warm-up of 200 steps": {"warmup_steps": 200},
    "weight decay 0.1": {"weight_decay": 0.1},
    "16 sequences": {"batch_size": 16},
    "length 128": {"sequence_length": 128},
    "rate 2e-3": {"learning_rate": 2e-3},
    "rate 8e-3": {"learning_rate": 8e-3},
}


def validation_nats(tokenizer: Tokenizer, parts: Split, changed: Mapping[str, Any], seed: int) -> float:
    """Nats per character of the validation part, state carried, at the end of a run."""
    device = torch.device("cpu")
    overrides = PlanOverrides(**{**BASE, **changed, "seed": seed, "precision": faster_precision(device)})
    config = make_plan(overrides, tokenizer.size, len(parts.train), device).config
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, tokenizer, parts, Path(folder), [], device=device)
        trainer.run()
        with trainer.learner.best_weights() as network:
            return carried(network_reader(network), parts.validation).nats_per_character


def measure() -> list[Figure]:
    """Print a table of all settings and return the medians; nothing where the corpus is missing.

    Run by name alone, as it takes long: `python -m tests.benchmarks levers`. BENCHMARK_LEVERS_… set corpus and size.
    """
    if not CORPUS.exists():
        return []
    keep_buffers()
    corpus = Corpus([FileSource(CORPUS)], ENCODING)
    tokenizer = Tokenizer.learn(corpus.blocks())
    parts = split(corpus.encode(tokenizer))
    table = Table("lever", "median", "from", "to", title=f"{CORPUS.name}, {EPOCHS:g} passes, 1 × {HIDDEN}, validation")
    figures = []
    for name, changed in LEVERS.items():
        found = sorted(validation_nats(tokenizer, parts, changed, seed) for seed in SEEDS)
        table.add_row(name, *(f"{value:.4f}" for value in (median(found), found[0], found[-1])))
        Console(stderr=True).print(name, " ".join(f"{value:.4f}" for value in found), highlight=False)
        figures.append(Figure(f"lever: {name}", median(found), "nats per character, validation"))
    Console(width=100).print(table)
    return figures
