"""The contract between the training loop and its watchers: a validation, and the calls a watcher gets."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The figures of a run at one validation; a line of metrics.jsonl.

    gradient_norm: the running mean before clipping. samples: a text for each of the temperatures, by its name. best:
    whether its bits were the lowest so far, before they were rounded to what stands here.
    """

    step: int
    characters: int
    seconds: float
    progress: float
    rate: float
    characters_per_second: float
    train_bits: float
    validation_bits: float
    gradient_norm: float
    samples: dict[str, str]
    best: bool


class Watcher(Protocol):
    """Called while a run goes on; shows it, writes it to a file, or does nothing."""

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:
        """After every step. train_bits: the running mean."""

    def validated(self, validation: Validation) -> None:
        """After every validation."""

    def told(self, note: str) -> None:
        """A sentence a reader should know: a roll-back, a full disk."""
