"""Notices a run that is far slower than planned, and says why, where that can be seen."""

import time
from collections.abc import Callable
from pathlib import Path

from model.command_line.terminal import shell_word
from training.monitoring.processor_load import LoadMeter
from training.monitoring.watcher import Validation

SECONDS = 5.0  # over which a speed is measured
SLOW = 0.5  # of the planned speed, which is an estimate
FEW_STEPS = 20  # after which a run that ends has hardly begun


class SpeedWatcher:
    """Compares the speed of a run with the planned one; without a plan, with the fastest seconds of the run itself.

    folder: of the run; None where its corpus cannot be read again. planned: characters a second. characters: how many
    were read so far. tell: takes the one sentence there may be.
    """

    def __init__(
        self, folder: Path | None, planned: float | None, characters: Callable[[], int], tell: Callable[[str], None]
    ) -> None:
        self.folder, self.planned, self.characters, self.tell = folder, planned, characters, tell
        self.told_slow = False
        self._fastest = 0.0
        self._load, self._since, self._read = LoadMeter(), time.monotonic(), characters()

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:  # noqa: ARG002
        """Measure now and then, and speak up once."""
        if (seconds := time.monotonic() - self._since) < SECONDS or self.told_slow:
            return
        speed = (self.characters() - self._read) / seconds
        self._fastest = max(self._fastest, speed)
        if speed < SLOW * (expected := self.planned or self._fastest):
            self._say(speed, expected, self._live_advice())
        self._load, self._since, self._read = LoadMeter(), time.monotonic(), self.characters()

    def validated(self, validation: Validation, best: bool) -> None:
        """Nothing: a validation is a part of the plan."""

    def told(self, note: str) -> None:
        """Nothing: others show it."""

    def ending(self, steps: int, characters_per_second: float, whole: bool) -> str:
        """How a run ended that was not stopped, in a few words. whole: whether it read all that it may read."""
        slow = self.planned is not None and characters_per_second < SLOW * self.planned
        if whole or not (slow or steps < FEW_STEPS):
            return "Done"
        if slow and self.planned is not None:
            if not self.told_slow:
                best = "its `best`" if self.folder is None else shell_word(self.folder / "best")
                self._say(
                    characters_per_second,
                    self.planned,
                    f"Give it more --minutes, or train its network on when the machine is quiet, with --from {best}.",
                )
            return f"Out of time, at {characters_per_second / self.planned:.1%} of the planned speed"
        return "Out of time after too few steps to learn much; give it more --minutes"

    def _live_advice(self) -> str:
        if self.folder is None:
            return "Let other work end."
        command = f"unroll train --resume {shell_word(self.folder)}"
        return f"Let other work end; or Ctrl-C saves the run, and `{command}` goes on when the machine is quiet."

    def _say(self, speed: float, expected: float, advice: str) -> None:
        self.told_slow = True
        load = self._load.read()
        cause = f" {load.in_words()}" if load else ""
        than = "were planned" if self.planned else "it read at its fastest"
        self.tell(
            f"The run reads {speed:,.0f} characters/s, {speed / expected:.1%} of the {expected:,.0f} that {than}."
            f"{cause} {advice}"
        )
