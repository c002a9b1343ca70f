"""A run that has ended, as a value; its results are measured from it."""

from dataclasses import dataclass
from pathlib import Path

import torch

from model.config import WeightsDtype
from training.data.split import Split
from training.monitoring.watcher import Validation
from training.planning.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """The facts of a run at its end; its checkpoints are `best` and `last` in its folder.

    config: the plan.
    split: the corpus.
    device: that it was trained on.
    dtype: of the weights on disk.
    step: the number of steps, best_step: the steps until `best` was saved.
    validations: oldest first, at least one.
    elapsed: seconds of the budget used.
    seconds: of them in the loop.
    stale: validations since the best.
    stopped_early: whether a user ended it before its budget did.
    notes: sentences for the reader.
    processes: the number on this machine that have trained.
    """

    folder: Path
    config: TrainingConfig
    split: Split
    device: torch.device
    dtype: WeightsDtype
    step: int
    best_step: int
    validations: tuple[Validation, ...]
    elapsed: float
    seconds: float
    stale: int
    stopped_early: bool
    notes: tuple[str, ...] = ()
    processes: int = 1

    @property
    def best_is_last(self) -> bool:
        """Whether `best` and `last` are the same weights."""
        return self.best_step == self.validations[-1].step

    def validation_at(self, step: int) -> Validation:
        """The validation after this many steps."""
        return next(validation for validation in self.validations if validation.step == step)
