"""Training on items beside training on one long text: characters a second of the same network on the same lines."""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from model.config import NetworkConfig
from model.text.frame import TextFrame
from model.text.tokenizer import Tokenizer
from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import ratio, side_by_side
from training.allocator import keep_buffers
from training.data.split import split
from training.items.split import split_items
from training.loop.trainer import Trainer
from training.planning.config import TrainingConfig
from training.planning.machine import faster_precision

ROUNDS, STEPS = 9, 8
CPU = torch.device("cpu")
HIDDEN = 256


def lines(count: int, shortest: int, longest: int) -> str:
    """Lines of random letters, their lengths spread as those of names or of records are: most near the middle."""
    chance = random.Random(1)
    lengths = (round((chance.uniform(shortest, longest) + chance.uniform(shortest, longest)) / 2) for _ in range(count))
    return "".join("".join(chance.choices("etaoinshrdlu ", k=length)) + "\n" for length in lengths)


def steps(text: str, as_items: bool, folder: Path) -> Callable[[], float]:
    """Characters a second of some steps of the trainer, everything but validations included."""
    tokenizer = Tokenizer.learn([text]).framed(TextFrame("\n" if as_items else ""))
    ids = tokenizer.encode(text)
    parts = split_items(ids, "90/5/5", tokenizer) if as_items else split(ids, "90/5/5")
    network = NetworkConfig(layers=1, hidden=HIDDEN, embedding=32, vocabulary=tokenizer.size)
    config = TrainingConfig(network=network, precision=faster_precision(CPU), minutes=60.0)
    trainer = Trainer(config, tokenizer, parts, folder, [], device=CPU)

    def run() -> float:
        before, start = trainer.state.ids, time.perf_counter()
        for _ in range(STEPS):
            trainer._step(0.5)
        return (trainer.state.ids - before) / (time.perf_counter() - start)

    return run


def measure() -> list[Figure]:
    """The ratio for lines as of a log, and for words as of a list of names, whose rows end soon."""
    keep_buffers()
    torch.set_num_threads(1)
    figures = []
    for name, shortest, longest in (("lines of 60 to 100", 60, 100), ("words of 3 to 11", 3, 11)):
        text = lines(200_000 // longest * 10, shortest, longest)
        with tempfile.TemporaryDirectory() as folder:
            runs = [steps(text, as_items, Path(folder)) for as_items in (True, False)]
            items, plain = side_by_side(runs, ROUNDS)
        figures.append(
            Figure(f"train --items / one long text, {name}", ratio(items, plain), "of the characters/s", 0.85)
        )
    return figures
