"""The bar of a run on the terminal: the time left is the budget's, and it goes on."""

import dataclasses
import io
from pathlib import Path

import pytest
from rich.text import Text

from model.command_line.console import TerminalConsole
from tests.training.verse import make_trainer
from training.monitoring.terminal import TerminalWatcher, clock
from training.monitoring.watcher import Validation
from training.planning.schedule import Budget

VALIDATION = Validation(
    step=1_234_567, characters=10, seconds=9.0, progress=0.5, rate=0.01, characters_per_second=118_123.4,
    train_bits=2.638, validation_bits=2.701, gradient_norm=1.0, samples={"0.8": "one\x1b[31m\n\ttwo " * 30}, best=True,
)  # fmt: skip


def shown(seconds_left: float | None) -> str:
    console = TerminalConsole(file=io.StringIO(), force_terminal=True, width=120)
    with TerminalWatcher(console, lambda: seconds_left):
        pass  # before the first step
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_time_left_is_shown_before_the_first_step() -> None:
    assert "4:59 left" in shown(299.4)
    assert "– left" in shown(None)


def test_time_left_is_the_budgets_from_the_first_second(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path / "run", epochs=None, minutes=5)
    left = trainer.seconds_left()
    assert left is not None
    assert 240 < left <= 300  # nothing was read yet
    assert make_trainer(tmp_path / "other", epochs=2).seconds_left() is None


def test_of_two_budgets_the_one_that_ends_first_counts() -> None:
    both = Budget(ids=1000, seconds=60)
    assert both.seconds_left(0, 10, 0) == 50
    assert both.seconds_left(500, 10, 50) == 10
    assert both.seconds_left(500, 55, 50) == 5
    assert both.seconds_left(1000, 61, 50) == 0
    assert Budget(ids=1000).seconds_left(0, 10, 0) is None


@pytest.mark.parametrize("width", [80, 120])
def test_the_last_bar_has_the_last_figures_and_nothing_is_broken_or_cut(width: int) -> None:
    console = TerminalConsole(file=io.StringIO(), force_terminal=True, width=width)
    with TerminalWatcher(console, lambda: 3_599.9) as watcher:
        watcher.stepped(1, 0.1, 20.0, 4.822)
        watcher.stepped(1_234_567, 1.0, 118_123.4, 2.5)  # too soon after the first to be drawn
        watcher.validated(VALIDATION)
    assert isinstance(console.file, io.StringIO)
    plain = Text.from_ansi(console.file.getvalue()).plain
    lines = [line.rstrip() for line in plain.splitlines()]
    assert max(map(len, lines)) <= width
    assert " 50 %  step 1,234,567  train 2.638  validation 2.701 bits per character (best)" in lines
    last = [line for line in lines if "left" in line][-1]
    assert "train 2.638  validation 2.701" in last
    assert f"118,123 {'characters/s' if width == 120 else 'char/s'} 59:59 left" in " ".join(last.split())
    sample = next(line for line in lines if "one" in line and "step" not in line)
    assert sample.startswith("      one␛[31m ⏎  two")
    assert sample.endswith("…")


def test_train_is_warm_and_validation_cool_as_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = TerminalConsole(file=io.StringIO(), force_terminal=True, width=120)
    with TerminalWatcher(console, lambda: 9.0) as watcher:
        watcher.validated(VALIDATION)
    assert isinstance(console.file, io.StringIO)
    written = console.file.getvalue()
    assert written.count("\x1b[33mtrain 2.638\x1b[0m") == written.count("\x1b[36mvalidation 2.701\x1b[0m") > 1


def test_without_a_terminal_each_check_is_a_line_with_all_figures() -> None:
    console = TerminalConsole(file=io.StringIO(), width=80)
    with TerminalWatcher(console, lambda: 65.0) as watcher:
        watcher.validated(dataclasses.replace(VALIDATION, best=False))
        watcher.told("a long sentence " * 20)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == (
        " 50 %  step 1,234,567  118,123 characters/s  train 2.638  validation 2.701 bits per character  1:05 left"
    )
    assert lines[2] == "a long sentence " * 20


def test_a_time_from_an_hour_on_has_hours() -> None:
    assert [clock(seconds) for seconds in (-1, 7.9, 754, 3600, 86_523)] == [
        "0:00",
        "0:07",
        "12:34",
        "1:00:00",
        "24:02:03",
    ]
