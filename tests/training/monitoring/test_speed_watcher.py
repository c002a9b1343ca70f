"""A run that is far slower than planned says so, once, and does not end with a plain "Done"."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.training.verse import Recorder, make_trainer
from training.monitoring.processor_load import LoadMeter, ProcessorLoad
from training.monitoring.speed_watcher import FEW_STEPS, SpeedWatcher


@pytest.fixture
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.monitoring.speed_watcher.SECONDS", 0.0)


def watching(
    said: list[str], kept: list[str], planned: float | None = 100_000.0, resumable: bool = True
) -> SpeedWatcher:
    return SpeedWatcher(Path("run"), resumable, planned, lambda: 0, said.append, kept.append)


@pytest.mark.usefixtures("_every_step")
@pytest.mark.parametrize(("planned", "notes"), [(1e12, 1), (1.0, 0)])
def test_a_run_far_below_its_plan_says_so_once_while_it_goes_on(tmp_path: Path, planned: float, notes: int) -> None:
    recorder = Recorder()
    trainer = make_trainer(tmp_path / "run", recorder)
    kept: list[str] = []
    watcher = SpeedWatcher(tmp_path / "run", True, planned, trainer.characters, trainer.show, kept.append)
    trainer.watchers = [watcher, recorder]
    state = trainer.run()
    assert len(recorder.notes) == notes
    assert state.notes == ()  # it is of a moment, and no news when the run has ended
    for note in recorder.notes:
        assert "of the 1,000,000,000,000 that were planned" in note
        assert "load average" in note
        assert f"unroll train --resume {tmp_path / 'run'}" in note


@pytest.mark.usefixtures("_every_step")
def test_a_run_without_a_planned_speed_is_held_against_its_own_fastest_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    read, now, said, kept = 0, 0.0, list[str](), list[str]()
    monkeypatch.setattr("training.monitoring.speed_watcher.time", SimpleNamespace(monotonic=lambda: now))
    watcher = SpeedWatcher(Path("run"), True, None, lambda: read, said.append, kept.append)
    for characters in (1000, 900, 500, 350, 100):
        read, now = read + characters, now + 1
        watcher.stepped(1, 0.1, 1.0, 1.0)
    assert len(said) == 1
    slow = "350 characters/s, 35 % of the 1,000 that it read at its fastest"
    assert slow in said[0]
    assert watcher.ending(500, 570.0, whole=True, stopped=False) == "Done"
    assert f"For a time the run read {slow}; 570, over all of it." in kept[0]


@pytest.mark.parametrize(
    ("steps", "speed", "whole", "ending", "advice"),
    [
        (3, 700.0, False, "Out of time, at 0.7 % of the planned speed", "Give it more --minutes, or train its network"),
        (
            500,
            49_000.0,
            False,
            "Out of time, at 49 % of the planned speed",
            "on when the machine is quiet, with",
        ),
        (500, 51_000.0, False, "Done", ""),
        (FEW_STEPS - 1, 1e5, False, "Out of time after too few steps to learn much; give it more --minutes", ""),
        (3, 700.0, True, "Done", "That cost time alone"),
    ],
)
def test_the_end_of_a_slow_run_says_how_slow_it_was(
    steps: int, speed: float, whole: bool, ending: str, advice: str
) -> None:
    said, kept = list[str](), list[str]()
    assert watching(said, kept).ending(steps, speed, whole, stopped=False) == ending
    assert said == []
    assert len(kept) == bool(advice)
    for note in kept:
        share = f"{speed / 1000:g} % of the"
        assert note.startswith(f"The run read {speed:,.0f} characters/s, {share} 100,000 that were planned. ")
        assert "load average" in note
        assert advice in note
        assert "Ctrl-C" not in note
        assert whole or "--from run/best" in note


@pytest.mark.usefixtures("_every_step")
def test_a_run_that_was_slow_for_a_time_says_so_at_its_end_in_the_figures_of_the_run() -> None:
    said, kept = list[str](), list[str]()
    watcher = watching(said, kept)
    watcher.stepped(1, 0.1, 1.0, 1.0)
    assert said[0].startswith("The run reads 0 characters/s, 0 % of the 100,000 that were planned. ")
    assert watcher.ending(500, 80_000.0, whole=False, stopped=False) == "Done"
    begin = (
        "For a time the run read 0 characters/s, 0 % of the 100,000 that were planned; 80,000, 80 %, over all of it."
    )
    assert [note.startswith(begin) for note in kept] == [True]


@pytest.mark.parametrize(("resumable", "advice"), [(True, "Resume it when"), (False, "Train its network on when")])
def test_a_slow_run_that_was_stopped_is_told_what_it_can_do(resumable: bool, advice: str) -> None:
    kept: list[str] = []
    watcher = watching([], kept, resumable=resumable)
    assert watcher.ending(500, 1_000.0, whole=False, stopped=True) == "Stopped early, saved"
    assert f" {advice} the machine is quiet" in kept[0]


@pytest.mark.usefixtures("_every_step")
def test_a_run_whose_corpus_cannot_be_read_again_is_not_told_to_resume() -> None:
    said: list[str] = []
    watching(said, [], resumable=False).stepped(1, 0.1, 1.0, 1.0)
    assert said[0].endswith("Let other work end.")


BUSY = 4  # processes beside the run on its core: they leave it a fifth


def test_a_run_beside_busy_processes_says_so_and_at_its_end_it_is_not_done(tmp_path: Path) -> None:
    """On one core, so that other cores need not be busy; they begin with the first check, and end with the training."""
    core, run = min(os.sched_getaffinity(0)), tmp_path / "run"
    train = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}}); from unroll import main; main()"]
    loop = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"]
    said: list[str] = []
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [*train, "train", "--minutes", "0.5", "--out", str(run)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "400"},
            )
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        others: list[subprocess.Popen[bytes]] = []
        for line in process.stdout:
            said.append(line)
            if " step " in line and not others:
                others += [subprocess.Popen(loop) for _ in range(BUSY)]
                for other in others:
                    stack.callback(other.wait)
                    stack.callback(other.kill)
            elif line.startswith("Scoring"):
                for other in others:
                    other.kill()
        assert process.wait() == 0, said
    found = {
        start: next((number for number, line in enumerate(said) if line.startswith(start)), -1)
        for start in ("The run reads", "Scoring", "Out of time, at ", "Done")
    }
    live, scoring, ended, done = found.values()
    assert 0 < live < scoring < ended, said
    assert done == -1, said
    assert "that were planned. Other processes take" in said[live]
    assert f"--resume {run}` goes on when the machine is quiet" in said[live]
    kept = [line for line in said[ended:] if line.startswith("The run read ")]
    share = said[ended].removeprefix("Out of time, at ").partition(" of the planned")[0]
    assert [f", {share} of the " in line for line in kept] == [True], said
    assert "Ctrl-C" not in "".join(said[ended:])
    assert "The run reads" not in (run / "report.html").read_text()


def test_the_work_of_another_process_is_seen() -> None:
    meter = LoadMeter()
    before = meter.read()
    subprocess.run([sys.executable, "-c", "while __import__('time').process_time() < 0.6: pass"], check=True)
    load = meter.read()
    assert before is not None
    assert load is not None
    assert load.others > 0.2


def test_the_cause_is_said_in_words() -> None:
    assert "Other processes take 1.5 of 2 cores (load average 2.6)." in ProcessorLoad(1.5, 0.0, 2, 2.6).in_words()
    assert "host of this virtual machine keeps 0.7 of its 2 cores" in ProcessorLoad(0.1, 0.7, 2, 0.3).in_words()
    assert "No other process here explains it" in ProcessorLoad(0.1, 0.1, 2, 0.3).in_words()
