"""A small corpus and a small trainer, for tests that train."""

from pathlib import Path
from typing import Any

import torch

from model.cells.spec import Cell
from model.config import NetworkConfig
from model.text.tokenizer import Tokenizer
from training.data.split import split
from training.loop.initial_weights import InitialWeights
from training.loop.trainer import Trainer
from training.monitoring.watcher import Validation
from training.planning.config import TrainingConfig
from training.planning.regularisation import Regularisation

VERSE = "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\n"
TEXT = VERSE * 60
TOKENIZER = Tokenizer.learn([TEXT])


class Recorder:
    """Keeps the checks and notes of a run, and can stop it at a step."""

    def __init__(self, stop_at: int = -1) -> None:
        self.validations: list[Validation] = []
        self.notes: list[str] = []
        self.stop_at = stop_at
        self.trainer: Trainer | None = None

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:  # noqa: ARG002
        if step == self.stop_at and self.trainer is not None:
            self.trainer.stop = True

    def validated(self, validation: Validation) -> None:
        self.validations.append(validation)

    def told(self, note: str) -> None:
        self.notes.append(note)


def make_trainer(
    folder: Path,
    recorder: Recorder | None = None,
    *,
    cell: Cell = "lstm",
    layers: int = 1,
    skip: bool = False,
    attention: int = 0,
    regularisation: Regularisation | None = None,
    initial_weights: InitialWeights | None = None,
    tokenizer: Tokenizer = TOKENIZER,
    text: str = TEXT,
    **options: Any,
) -> Trainer:
    """A trainer of a small network; options are those of TrainingConfig."""
    recorder = recorder or Recorder()
    network = NetworkConfig(
        cell=cell,
        layers=layers,
        hidden=48,
        embedding=16,
        vocabulary=tokenizer.size,
        skip=skip,
        attention=attention,
    )
    settings = {
        "batch_size": 8,
        "sequence_length": 32,
        "learning_rate": 1e-2,
        "epochs": 4,
        "fit_temperature": False,
        **options,
    }
    config = TrainingConfig(network=network, regularisation=regularisation or Regularisation(), **settings)
    device = torch.device("cpu")
    parts = split(tokenizer.encode(text))
    recorder.trainer = Trainer(
        config, tokenizer, parts, folder, [recorder], device=device, initial_weights=initial_weights
    )
    return recorder.trainer
