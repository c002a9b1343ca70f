"""Pieces of work for processes that train together; each is the same work where there is one."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.config import NetworkConfig
from model.text.frame import TextFrame
from model.text.tokenizer import Tokenizer
from tests.training.verse import TEXT, TOKENIZER, Recorder
from training.data.split import split
from training.distributed.agreement import agree
from training.distributed.ranks import Ranks
from training.distributed.shared_rows import shared_rows
from training.items.split import split_items
from training.loop.finished_run import FinishedRun
from training.loop.run_state import newest
from training.loop.trainer import Trainer
from training.measurement import Measured, measure
from training.planning.config import TrainingConfig
from training.planning.regularisation import Regularisation

WORDS = [letter * (1 + number % 11) + str(number) for number, letter in enumerate("abcdefgh" * 50)]
LIST = "".join(word + "\n" for word in WORDS)
OF_LIST = Tokenizer.learn([LIST]).framed(TextFrame("\n"))
EVERYTHING = Regularisation(
    input_dropout=0.1, layer_dropout=0.2, output_dropout=0.2, weight_drop=0.2, drop_state=0.1, locked=False
)


@dataclass(frozen=True)
class Run:
    """A small run. items: of a list, with windows so short that items go on from one to the next.

    stop_at: a step after which one process, not the first, is told to stop. poison: a step after which the weights of
    all are spoilt once.
    """

    folder: Path
    items: bool = False
    attention: int = 0
    stop_at: int = -1
    poison: int = -1
    resumed: bool = False
    options: dict[str, Any] = field(default_factory=dict)


class Meddler(Recorder):
    """Stops a run, or spoils its weights, after a step."""

    def __init__(self, poison: int, stop_at: int) -> None:
        super().__init__(stop_at)
        self.poison = poison

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:
        """Do what there is to do after this step."""
        super().stepped(step, progress, characters_per_second, train_bits)
        if step == self.poison and self.trainer is not None:
            self.poison = -1
            with torch.no_grad():
                self.trainer.learner.network.out.weight.mul_(float("nan"))


def make_trainer(ranks: Ranks, run: Run) -> Trainer:
    """A trainer of the run in one of its processes."""
    tokenizer = OF_LIST if run.items else TOKENIZER
    parts = split_items(tokenizer.encode(LIST), "90/5/5", tokenizer) if run.items else split(tokenizer.encode(TEXT))
    network = NetworkConfig(layers=2, hidden=32, embedding=16, vocabulary=tokenizer.size, skip=True)
    network = replace(network, attention=run.attention)
    shape = {"batch_size": 6, "sequence_length": 4} if run.items else {"batch_size": 8, "sequence_length": 32}
    settings = {"epochs": 4.0, "regularisation": EVERYTHING, "fit_temperature": False, **shape, **run.options}
    config = TrainingConfig(network=network, **settings)
    meddler = Meddler(run.poison, run.stop_at if ranks.number == ranks.count - 1 else -1)
    trainer = Trainer(config, tokenizer, parts, run.folder, [meddler], device=torch.device("cpu"), ranks=ranks)
    meddler.trainer = trainer
    if run.resumed:
        saved = newest(run.folder, ranks)
        assert saved is not None
        trainer.resume(*saved)
    return trainer


def steps(ranks: Ranks, run: Run, count: int) -> tuple[list[float], list[Tensor]]:
    """The losses of some steps, and the weights after them."""
    trainer = make_trainer(ranks, run)
    losses = list(_losses(trainer, count))
    return losses, [weight.detach().clone() for weight in trainer.learner.network.parameters()]


def _losses(trainer: Trainer, count: int) -> Iterator[float]:
    for _ in range(count):
        window, *more = [trainer.batches.next() for _ in range(trainer.config.accumulate)]
        yield float(trainer.learner.learn(window, 4e-3, more=more, asides=(0.0, 0.0)).loss)


def whole_run(ranks: Ranks, run: Run) -> dict[str, Any]:
    """A run to its end: what is known of it there."""
    trainer = make_trainer(ranks, run)
    finished = trainer.run()
    return {
        "step": finished.step,
        "rolled back": trainer.state.rolled_back,
        "stopped early": finished.stopped_early,
        "validations": [validation.validation_bits for validation in finished.validations],
        "weights": [weight.detach().clone() for weight in trainer.learner.network.parameters()],
    }


def measured(ranks: Ranks, run: FinishedRun, scored: int) -> Measured:
    """What is measured of a run, whose folder the first process alone has."""
    return measure(run if ranks.first else replace(run, folder=Path("nowhere")), scored, ranks)


def steps_by_sockets(ranks: Ranks, run: Run, count: int) -> tuple[list[float], list[Tensor]]:
    """The same steps, as if each process were on a machine of its own."""
    return steps(replace(ranks, here=1), run, count)


def sums_in_shared_memory(ranks: Ranks) -> list[Tensor] | None:
    """Sums of numbers of each process, twice; None where memory is not shared."""
    shared = shared_rows(ranks, 1001)
    if shared is None:
        return None
    sums = []
    for factor in (1, 2):
        shared.own.copy_(factor * torch.arange(1001) * (ranks.number + 1) / 7)
        shared.sum()
        sums.append(shared.own.clone())
    return sums


def rounded_sums(ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Sums of numbers of each process, exact and in bfloat16."""
    values = torch.arange(1001) * (ranks.number + 1) / 7
    exact, rounded = values.clone(), values.clone()
    ranks.sum(exact)
    ranks.sum_in_bf16(rounded)
    return exact, rounded


def agreement(ranks: Ranks, corpora: list[str]) -> bool:
    """Whether all processes agree, where each has a text of those."""
    agree(ranks, corpora[ranks.number], "vocabulary", "split")
    return True
