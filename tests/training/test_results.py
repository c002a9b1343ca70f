"""The results of a run are measured from what it left, and change nothing of it."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.checkpoint import load, read
from model.command_line.console import TerminalConsole
from model.commands.info import describe, summary
from model.memory import UNLIMITED
from tests.training.verse import TEXT, make_trainer
from training.data.corpus import CorpusFacts
from training.evaluation.score import Score
from training.results import Provenance, leave_results
from training.summary import show_outcome

FACTS = CorpusFacts(names=("verse.txt",), characters=len(TEXT), encoding="utf-8", sha256="0" * 64)
PROVENANCE = Provenance(FACTS, "a machine", "unroll train verse.txt")
NOTE = "The disk was full for a while."


def test_a_run_that_is_measured_again_has_the_same_results(tmp_path: Path) -> None:
    running = make_trainer(tmp_path, epochs=2, patience=1)
    run = replace(running.run(), notes=(NOTE,), stale=1)
    first = leave_results(run, PROVENANCE, 10_000)
    written = {name: load(tmp_path / name).training for name in ("best", "last")}
    assert first.notes[0] == NOTE
    assert "1 validations in a row brought nothing better" in first.notes[1]
    assert leave_results(run, PROVENANCE, 10_000) == first
    assert {name: load(tmp_path / name).training for name in ("best", "last")} == written
    assert written["best"]["notes"] == first.notes
    assert written["best"]["seconds"] == round(run.elapsed, 1)
    assert running.state.notes == []


def test_a_figure_of_the_beginning_of_a_part_says_so(tmp_path: Path) -> None:
    run = make_trainer(tmp_path, epochs=1).run()
    test = leave_results(run, PROVENANCE, 100).figures["test"]
    words = f"over the first 100 of {len(run.split.test):,} ids"
    assert test.protocol.endswith(words)
    figures = load(tmp_path / "best").training["figures"]["test"]
    assert (figures["ids_scored"], figures["ids_in_part"]) == (100, len(run.split.test))
    assert Score.from_json(figures).to_json() == figures
    written = io.StringIO()
    console = TerminalConsole(file=written, width=200)
    show_outcome(console, run, leave_results(run, PROVENANCE, 100), "Done")
    assert f"bits per character {words}. " in written.getvalue().splitlines()[0]
    assert summary(describe(read(tmp_path / "best", UNLIMITED), tmp_path / "best"))["test"].endswith(words)


def test_no_clock_decides_the_figures_of_a_run_whose_budget_is_in_passes(tmp_path: Path) -> None:
    """The same run has the same figures on a busy machine: as many cold windows."""
    run = make_trainer(tmp_path, epochs=1).run()
    run = replace(run, split=replace(run.split, validation=np.tile(run.split.validation, 8)))
    found = leave_results(run, PROVENANCE, 10_000).figures["validation, cold"]
    assert (found.protocol, found.characters) == ("cold windows of 256, 256 random, zero state", 256 * 256)


def test_a_best_that_is_not_the_last_has_a_card_of_its_own(tmp_path: Path) -> None:
    run = make_trainer(tmp_path, epochs=4).run()
    earlier = replace(run, best_step=run.validations[3].step)
    assert run.validations[-1].step != earlier.best_step
    kept = load(tmp_path / "last").training["validation"]
    results = leave_results(earlier, PROVENANCE, 10_000)
    best, last = (load(tmp_path / name).training for name in ("best", "last"))
    assert best["steps"] == earlier.best_step
    assert best["characters_read"] == run.validations[3].characters
    assert best["figures"] == {part: score.to_json() for part, score in results.figures.items()}
    assert last["steps"] == run.step
    assert last["figures"] == {"validation": kept}
