"""A run on the terminal: a live bar where there is one, a line now and then where there is none."""

import time
from collections.abc import Callable
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from training.monitoring.watcher import Validation

SHOWN = "0.8"  # the temperature of the sample that is printed
REDRAWN = 0.1  # seconds between two updates of the bar's figures


class TerminalWatcher:
    """Shows characters per second, train and validation bits per character, time left, and samples.

    seconds_left: until the budget is used, where that is known. Use as a context manager: the bar is live inside.
    """

    def __init__(self, console: Console, seconds_left: Callable[[], float | None]) -> None:
        self.console = console
        self._validation = "–"
        self._left = partial(_left, seconds_left)
        self._drawn = 0.0
        self._bar = Progress(
            TextColumn("{task.fields[pace]}"),
            BarColumn(bar_width=None),
            TextColumn(
                "{task.percentage:>3.0f} %  train {task.fields[train]}  validation {task.fields[validation]} bits"
            ),
            LeftColumn(self._left),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )
        self._task = self._bar.add_task("", total=1.0, pace="", train="–", validation="–")

    def __enter__(self) -> "TerminalWatcher":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:  # noqa: ARG002
        """Move the bar."""
        now = time.monotonic()
        if now - self._drawn < REDRAWN:
            return
        self._drawn = now
        self._bar.update(
            self._task,
            completed=min(progress, 1.0),
            pace=f"{characters_per_second:,.0f} characters/s",
            train=f"{train_bits:.3f}",
            validation=self._validation,
        )

    def validated(self, validation: Validation, best: bool) -> None:
        """Print the figures of a validation and the beginning of its sample."""
        self._validation = f"{validation.validation_bits:.3f}"
        self.console.print(
            f"{validation.progress:4.0%}  step {validation.step:,}  "
            f"{validation.characters_per_second:,.0f} characters/s  "
            f"train {validation.train_bits:.3f}  validation {validation.validation_bits:.3f} bits per character"
            f"{' (best)' if best else ''}  {self._left()} left",
            highlight=False,
            soft_wrap=True,
        )
        sample = " ⏎ ".join(line for line in validation.samples[SHOWN].split("\n") if line.strip())
        line = Text("      " + sample, style="dim", end="")
        line.truncate(min(self.console.width, 120), overflow="ellipsis")
        self.console.print(line, no_wrap=True)

    def told(self, note: str) -> None:
        """Print a sentence a reader should know."""
        self.console.print(note, highlight=False, markup=False, soft_wrap=True)


class LeftColumn(ProgressColumn):
    """The time left, which goes on while a step takes long."""

    def __init__(self, left: Callable[[], str]) -> None:
        super().__init__()
        self._left = left

    def render(self, task: Task) -> Text:  # noqa: ARG002
        """Draw it anew."""
        return Text(f"{self._left()} left")


def _left(seconds_left: Callable[[], float | None]) -> str:
    seconds = seconds_left()
    return "–" if seconds is None else f"{int(seconds // 60)}:{int(seconds % 60):02d}"
