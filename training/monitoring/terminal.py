"""A run on the terminal: a live bar where there is one, a line now and then where there is none."""

import math
import time
from collections.abc import Callable
from functools import partial

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from model.command_line.console import TerminalConsole
from model.command_line.terminal import for_terminal
from training.monitoring.watcher import Validation

SHOWN = "0.8"  # the temperature of the sample that is printed
REDRAWN = 0.1  # seconds between two updates of the bar's figures
WIDE = 100  # columns from which on the bar has room for whole words
TRAIN, VALIDATION = "yellow", "cyan"  # the warm and the cool colour that they have in the report
LONGEST = 120  # columns of a sample at most


class TerminalWatcher:
    """Shows characters per second, train and validation bits per character, time left, and samples.

    seconds_left: until the budget is used, where that is known. Use as a context manager: the bar is live inside, and
    stays with the last figures. All fits 80 columns.
    """

    def __init__(self, console: TerminalConsole, seconds_left: Callable[[], float | None]) -> None:
        self.console = console
        self._left = partial(_left, seconds_left)
        self._drawn = 0.0
        self._progress, self._pace, self._train, self._validation = 0.0, 0.0, math.nan, math.nan
        speed = "characters/s" if console.width >= WIDE else "char/s"
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=None),
            TextColumn(
                f"[{TRAIN}]train {{task.fields[train]}}[/]  [{VALIDATION}]validation {{task.fields[validation]}}[/]"
            ),
            TextColumn(f"{{task.fields[pace]}} {speed}"),
            LeftColumn(self._left),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )
        self._task = self._bar.add_task("", total=1.0, pace="–", train="–", validation="–")

    def __enter__(self) -> "TerminalWatcher":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._draw()
        self._bar.stop()

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:  # noqa: ARG002
        """Move the bar."""
        self._progress, self._pace, self._train = progress, characters_per_second, train_bits
        now = time.monotonic()
        if now - self._drawn >= REDRAWN:
            self._drawn = now
            self._draw()

    def validated(self, validation: Validation) -> None:
        """Print the figures of a validation and the beginning of its sample."""
        self._progress, self._pace = validation.progress, validation.characters_per_second
        self._train, self._validation = validation.train_bits, validation.validation_bits
        self._draw()
        # What the bar shows already would make the line too long for a narrow terminal.
        pace = "" if self.console.is_terminal else f"{validation.characters_per_second:,.0f} characters/s  "
        left = "" if self.console.is_terminal else f"  {self._left()} left"
        line = Text.assemble(
            f"{100 * validation.progress:3.0f} %  step {validation.step:,}  {pace}",
            (f"train {validation.train_bits:.3f}", TRAIN),
            "  ",
            (f"validation {validation.validation_bits:.3f}", VALIDATION),
            f" bits per character{' (best)' if validation.best else ''}{left}",
        )
        self.console.print(line, soft_wrap=True)
        shown = for_terminal(validation.samples[SHOWN])
        sample = " ⏎ ".join(line for line in shown.split("\n") if line.strip()).replace("\t", " ")
        line = Text("      " + sample, style="dim", end="")
        line.truncate(min(self.console.width, LONGEST), overflow="ellipsis")
        self.console.print(line, no_wrap=True)

    def told(self, note: str) -> None:
        """Print a sentence a reader should know."""
        self.console.say(note)

    def _draw(self) -> None:
        self._bar.update(
            self._task,
            completed=min(self._progress, 1.0),
            pace="–" if not self._pace else f"{self._pace:,.0f}",
            train=_bits(self._train),
            validation=_bits(self._validation),
        )


class LeftColumn(ProgressColumn):
    """The time left, which goes on while a step takes long."""

    def __init__(self, left: Callable[[], str]) -> None:
        super().__init__()
        self._left = left

    def render(self, task: Task) -> Text:  # noqa: ARG002
        """Draw it anew."""
        return Text(f"{self._left()} left")


def _bits(bits: float) -> str:
    return "–" if math.isnan(bits) else f"{bits:.3f}"


def _left(seconds_left: Callable[[], float | None]) -> str:
    seconds = seconds_left()
    return "–" if seconds is None else clock(seconds)


def clock(seconds: float) -> str:
    """A time as minutes and seconds, from an hour on with hours: 0:07, 12:34, 1:02:03."""
    whole = max(0, int(seconds))
    hours = f"{whole // 3600}:{whole // 60 % 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{hours}:{whole % 60:02d}"
