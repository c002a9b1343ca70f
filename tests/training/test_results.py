"""The results of a run are measured from what it left, and change nothing of it."""

from dataclasses import replace
from pathlib import Path

from model.checkpoint import load
from tests.training.verse import TEXT, make_trainer
from training.data.corpus import CorpusFacts
from training.results import Provenance, leave_results

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
