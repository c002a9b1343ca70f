"""Notices a run that is far slower than planned, and says why, where that can be seen."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model.command_line.terminal import percent, shell_word
from training.monitoring.processor_load import LoadMeter, ProcessorLoad
from training.monitoring.watcher import Validation

SECONDS = 5.0  # over which a speed is measured
SLOW = 0.5  # of the planned speed, which is an estimate
FEW_STEPS = 20  # after which a run that ends has hardly begun


@dataclass(frozen=True)
class Slowness:
    """A time in which a run was slow: its speed, in characters a second, what of it was expected, and the load."""

    speed: float
    expected: float
    load: ProcessorLoad | None


class SpeedWatcher:
    """Compares the speed of a run with the planned one; without a plan, with the fastest seconds of the run itself.

    folder: of the run; None where its corpus cannot be read again. planned: characters a second. characters: how many
    were read so far. show: takes the one sentence there may be while the run goes on, which is stale when it ends.
    keep: takes the one there may be at its end, for the report.
    """

    def __init__(
        self,
        folder: Path,
        resumable: bool,
        planned: float | None,
        characters: Callable[[], int],
        show: Callable[[str], None],
        keep: Callable[[str], None],
    ) -> None:
        self.folder, self.resumable, self.planned, self.characters = folder, resumable, planned, characters
        self.show, self.keep = show, keep
        self._slow: Slowness | None = None
        self._fastest = 0.0
        self._of_run = LoadMeter()
        self._load, self._since, self._read = LoadMeter(), time.monotonic(), characters()

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:  # noqa: ARG002
        """Measure now and then, and speak up once."""
        if (seconds := time.monotonic() - self._since) < SECONDS or self._slow:
            return
        speed = (self.characters() - self._read) / seconds
        self._fastest = max(self._fastest, speed)
        if speed < SLOW * (expected := self.planned or self._fastest):
            self._slow = slow = Slowness(speed, expected, self._load.read())
            cause = f" {slow.load.in_words()}" if slow.load else ""
            self.show(f"The run reads {self._figures(speed, expected)}.{cause} {self._live_advice()}")
        self._load, self._since, self._read = LoadMeter(), time.monotonic(), self.characters()

    def validated(self, validation: Validation) -> None:
        """Nothing: a validation is a part of the plan."""

    def told(self, note: str) -> None:
        """Nothing: others show it."""

    def ending(self, steps: int, characters_per_second: float, whole: bool, stopped: bool) -> str:
        """How a run ended, in a few words; keep a sentence on its speed where that was far below what was expected.

        characters_per_second: of the whole run. whole: whether it read all that it may read. stopped: by a user.
        """
        slow = self.planned is not None and characters_per_second < SLOW * self.planned
        if slow:
            self._keep_slow(characters_per_second, self._end_advice(whole, stopped))
        elif self._slow:
            self._keep_slow_for_a_time(self._slow, characters_per_second)
        if stopped:
            return "Stopped early, saved"
        if whole or not (slow or steps < FEW_STEPS):
            return "Done"
        if slow and self.planned is not None:
            return f"Out of time, at {percent(characters_per_second / self.planned)} of the planned speed"
        return "Out of time after too few steps to learn much; give it more --minutes"

    def _keep_slow(self, speed: float, advice: str) -> None:
        load = self._slow.load if self._slow else self._of_run.read()
        cause = f" {load.in_words(past=True)}" if load else ""
        self.keep(f"The run read {self._figures(speed, self.planned or speed)}.{cause} {advice}")

    def _keep_slow_for_a_time(self, slow: Slowness, speed: float) -> None:
        cause = f" {slow.load.in_words(past=True)}" if slow.load else ""
        share = f", {percent(speed / self.planned)}" if self.planned else ""
        self.keep(
            f"For a time the run read {self._figures(slow.speed, slow.expected)}; {speed:,.0f}{share}, over all of it."
            f"{cause}"
        )

    def _figures(self, speed: float, expected: float) -> str:
        than = "were planned" if self.planned else "it read at its fastest"
        return f"{speed:,.0f} characters/s, {percent(speed / expected)} of the {expected:,.0f} that {than}"

    def _live_advice(self) -> str:
        if not self.resumable:
            return "Let other work end."
        command = f"unroll train --resume {shell_word(self.folder)}"
        return f"Let other work end; or Ctrl-C saves the run, and `{command}` goes on when the machine is quiet."

    def _end_advice(self, whole: bool, stopped: bool) -> str:
        if stopped and self.resumable:
            return "Resume it when the machine is quiet."
        if whole:
            return "That cost time alone: the run was not cut short."
        best = shell_word(self.folder / "best")
        more = "" if stopped else "Give it more --minutes, or train its network on"
        return f"{more or 'Train its network on'} when the machine is quiet, with --from {best}."
