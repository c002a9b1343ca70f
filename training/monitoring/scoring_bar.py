"""How far an evaluation is: a live bar where there is a terminal, a line now and then where there is none."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from model.command_line.console import TerminalConsole
from training.monitoring.terminal import clock

SAID_EVERY = 10.0  # seconds between two lines where there is no bar

Read = Callable[[NDArray[np.int64], NDArray[np.int64], Any], tuple[float, Any]]


class ScoringBar:
    """Counts the ids that are scored; a context manager, live inside.

    console: on standard error, as standard output has the figures.
    """

    def __init__(self, console: TerminalConsole) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("Scoring, {task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            RemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._name, self._total, self._done, self._began, self._said = "", 0, 0, 0.0, 0.0

    def __enter__(self) -> "ScoringBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, name: str, ids: int | None) -> None:
        """A protocol begins. ids: how many it scores; None where that is not known."""
        if self._task is not None:
            self._bar.update(self._task, total=max(1, self._done), completed=max(1, self._done))
        self._name, self._total, self._done = name, ids or 0, 0
        self._began = self._said = time.monotonic()
        self._task = self._bar.add_task(name, total=ids)
        if not self._console.is_terminal:
            self._console.say(f"Scoring, {name}: {f'{ids:,} ids' if ids else 'begun'}")

    def counted(self, read: Read) -> Read:
        """The same reader, its ids counted; threads may use it at once."""

        def counting(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
            answer = read(inputs, targets, state)
            self._advance(targets.size)
            return answer

        return counting

    def _advance(self, ids: int) -> None:
        with self._lock:
            self._done += ids
            now = time.monotonic()
            said = not self._console.is_terminal and self._total and now - self._said >= SAID_EVERY
            if said:
                self._said = now
            share = min(1.0, self._done / self._total) if self._total else 0.0
        if self._task is not None:
            self._bar.advance(self._task, ids)
        if said:
            left = clock((now - self._began) * (1 - share) / max(share, 1e-9))
            self._console.say(f"Scoring, {self._name}: {100 * share:.0f} %, {left} left")


class RemainingColumn(ProgressColumn):
    """The time left; at the end, the time that it took; where neither can be known, the time that it takes."""

    def render(self, task: Task) -> Text:
        """Draw it anew."""
        took = clock(task.finished_time if task.finished_time is not None else task.elapsed or 0.0)
        left = None if task.finished else task.time_remaining
        return Text(took if left is None else f"{clock(left)} left")
