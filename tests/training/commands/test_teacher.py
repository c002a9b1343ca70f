"""`unroll train --teacher` as a user runs it: learnt from, left alone, stopped and gone on with."""

import sys
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import load
from model.errors import ParameterError, TrainingError
from tests.training.commands.program import unroll
from tests.training.verse import TEXT
from training.loop.trainer import Trainer

QUICK = ("--hidden", "32", "--embedding", "8", "--batch-size", "8", "--sequence-length", "32", "--epochs", "3")


def equal(one: Path, other: Path) -> bool:
    """Whether the weights of two runs are, to the bit."""
    pairs = [(load(one / name).tensors, load(other / name).tensors) for name in ("best", "last")]
    return all(np.array_equal(left[name], right[name]) for left, right in pairs for name in left)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, a teacher with attention, a run without a teacher and one that learns from it and from itself."""
    folder = tmp_path_factory.mktemp("teachers")
    (folder / "verse.txt").write_text(TEXT)
    text = folder / "verse.txt"
    unroll("train", text, *QUICK, "--layers", "1", "--attention", "32", "--out", folder / "old")
    unroll("train", text, *QUICK, "--layers", "2", "--out", folder / "alone")
    return folder


def taught(folder: Path, out: str, *words: str) -> str:
    teachers = ("--teacher", folder / "old", "--teacher", folder / "alone" / "best")
    return unroll("train", folder / "verse.txt", *QUICK, "--layers", "2", *teachers, "--out", folder / out, *words)


def test_a_run_learns_from_two_teachers_and_says_so(folder: Path) -> None:
    output = " ".join(taught(folder, "taught").split())
    assert "0.5 of the loss is what old, alone expect on average, kept in 0.6 MB" in output
    assert not equal(folder / "taught", folder / "alone")
    best = load(folder / "taught" / "best")
    assert [one["name"] for one in best.training["teachers"]] == ["old", "alone"]
    assert best.training["plan"]["teacher_share"] == 0.5
    assert best.card.count("| teacher | ") == 2
    assert "| teachers' share | 0.5 of the loss |" in best.card


def test_the_card_names_a_teacher_by_its_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*map(str, QUICK), "--teacher", str(folder / "alone" / "best"), "--out", str(folder / "named")]
    monkeypatch.setattr(sys, "argv", ["unroll", "train", str(folder / "verse.txt"), *words])
    unroll(*sys.argv[1:])
    card = load(folder / "named" / "best").card
    assert f"unroll train verse.txt {' '.join(map(str, QUICK))} --teacher alone/best --out named\n" in card


def test_teachers_without_a_share_leave_the_run_as_it_is(folder: Path) -> None:
    taught(folder, "without", "--teacher-share", "0")
    assert equal(folder / "without", folder / "alone")


def test_a_stopped_run_goes_on_to_the_weights_of_one_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught(folder, "whole", "--threads", "2")
    with monkeypatch.context() as patch:
        step = Trainer._step

        def stopped(self: Trainer, progress: float) -> None:
            step(self, progress)
            self.stop = self.state.step == 7

        patch.setattr(Trainer, "_step", stopped)
        taught(folder, "stopped", "--threads", "2")
    assert not equal(folder / "stopped", folder / "whole")
    assert "Reading the text with the teachers" in unroll("train", "--resume", folder / "stopped")
    assert equal(folder / "stopped", folder / "whole")
    assert "Reading the text" not in unroll("train", "--resume", folder / "stopped")


def test_what_does_not_fit_is_refused_in_a_sentence(folder: Path) -> None:
    command = ("train", folder / "verse.txt", *QUICK, "--out", folder / "refused")
    with pytest.raises(ParameterError, match="--teacher-share is the teachers'; name one with --teacher"):
        unroll(*command, "--teacher-share", "0.3")
    with pytest.raises(ParameterError, match="leave it out for a list of items"):
        unroll(*command, "--items", "--teacher", folder / "old")
    with pytest.raises(ParameterError, match=r"--teacher-share is 1\.5; choose a number from 0 to 1"):
        unroll(*command, "--teacher", folder / "old", "--teacher-share", "1.5")
    (folder / "other.txt").write_text(TEXT + "Ä")
    with pytest.raises(ParameterError, match="The teacher old knows"):
        unroll("train", folder / "other.txt", *QUICK, "--out", folder / "refused", "--teacher", folder / "old")
    assert not (folder / "refused").exists()


def test_a_teacher_that_has_changed_ends_the_run_that_would_go_on(folder: Path) -> None:
    unroll("train", folder / "verse.txt", *QUICK, "--out", folder / "changing")
    command = ("train", folder / "verse.txt", *QUICK, "--teacher", folder / "changing", "--out", folder / "student")
    unroll(*command)
    unroll("train", folder / "verse.txt", *QUICK, "--seed", "2", "--overwrite", "--out", folder / "changing")
    with pytest.raises(TrainingError, match="has changed since the run began"):
        unroll("train", "--resume", folder / "student")
