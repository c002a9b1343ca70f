"""An evaluation says how far it is: on a terminal by a bar, else by lines."""

import io

import numpy as np
import pytest
from rich.text import Text

from model.command_line.console import TerminalConsole
from training.monitoring import scoring_bar
from training.monitoring.scoring_bar import ScoringBar

IDS = np.zeros((2, 50), np.int64)


def shown(*, terminal: bool) -> list[str]:
    """What is said of two protocols, of 400 ids and of some."""
    console = TerminalConsole(file=io.StringIO(), force_terminal=terminal, width=80)
    with ScoringBar(console) as bar:
        read = bar.counted(lambda inputs, targets, state: (float(inputs.size + targets.size), state))
        for name, ids, times in (("carried", 400, 4), ("dynamic", None, 1)):
            bar.begin(name, ids)
            assert [read(IDS, IDS, "state") for _ in range(times)] == [(200.0, "state")] * times
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in Text.from_ansi(console.file.getvalue()).plain.splitlines()]


def test_a_bar_ends_full_and_fits_the_terminal() -> None:
    lines = shown(terminal=True)
    assert max(map(len, lines)) <= 80
    last = [" ".join(line.split()) for line in lines if line.startswith("Scoring, carried")][-1]
    assert last.endswith("━ 100 % 0:00")


def test_without_a_terminal_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(terminal=False) == ["Scoring, carried: 400 ids", "Scoring, dynamic: begun"]
    monkeypatch.setattr(scoring_bar, "SAID_EVERY", 0.0)
    assert shown(terminal=False) == [
        "Scoring, carried: 400 ids",
        *(f"Scoring, carried: {share} %, 0:00 left" for share in (25, 50, 75, 100)),
        "Scoring, dynamic: begun",
    ]
