"""The bar of a run on the terminal: the time left is the budget's, and it goes on."""

import io
from pathlib import Path

from rich.console import Console

from tests.training.verse import make_trainer
from training.monitoring.terminal import TerminalWatcher
from training.planning.schedule import Budget


def shown(seconds_left: float | None) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
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
