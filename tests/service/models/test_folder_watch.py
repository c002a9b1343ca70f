"""What a look at a folder of models tells: a rename at once, a copy once it is quiet, a gap of a replacement never."""

import shutil
from pathlib import Path

import pytest

from model.checkpoint import CONFIG, WEIGHTS
from service.models.folder_watch import GONE_SECONDS, QUIET_SECONDS, FolderWatch


class Looking:
    """A watch whose time is what a test says it is."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.watch = FolderWatch(folder, lambda: self.now)

    def look(self, after: float = 0.2, hurry: bool = False) -> list[tuple[str, str]]:
        """What is told: the name, and whether it is new, final or gone."""
        self.now += after
        return [
            (change.place.name, "gone" if change.signature is None else "final" if change.final else "new")
            for change in self.watch.look(hurry)
        ]


@pytest.fixture
def looking(tmp_path: Path, folders: dict[str, Path]) -> Looking:
    shutil.copytree(folders["one"], tmp_path / "models" / "one")
    looking = Looking(tmp_path / "models")
    assert looking.look() == [("one", "new")]
    assert looking.look(QUIET_SECONDS) == [("one", "final")]
    assert looking.look(100) == []
    return looking


def replace(source: Path, target: Path) -> None:
    aside = target.with_name(".aside")
    shutil.copytree(source, target.with_name(".new"))
    target.rename(aside)
    target.with_name(".new").rename(target)
    shutil.rmtree(aside)


def test_a_rename_is_told_at_once(looking: Looking, tmp_path: Path, folders: dict[str, Path]) -> None:
    replace(folders["two"], tmp_path / "models" / "one")
    assert looking.look() == [("one", "new")]
    assert looking.look(QUIET_SECONDS) == [("one", "final")]


def test_a_change_in_place_waits_until_it_is_quiet(looking: Looking, tmp_path: Path, folders: dict[str, Path]) -> None:
    shutil.copy(folders["two"] / CONFIG, tmp_path / "models" / "one")
    assert looking.look() == []
    shutil.copy(folders["two"] / WEIGHTS, tmp_path / "models" / "one")
    assert looking.look(QUIET_SECONDS) == []
    assert looking.look(QUIET_SECONDS / 2) == []
    assert looking.look(QUIET_SECONDS / 2) == [("one", "final")]


def test_in_a_hurry_a_change_in_place_is_told_at_once(
    looking: Looking, tmp_path: Path, folders: dict[str, Path]
) -> None:
    shutil.copy(folders["two"] / CONFIG, tmp_path / "models" / "one")
    assert looking.look(hurry=True) == [("one", "new")]
    assert looking.look(QUIET_SECONDS) == [("one", "final")]


def test_a_name_that_is_missing_for_a_moment_is_not_gone(looking: Looking, tmp_path: Path) -> None:
    one = tmp_path / "models" / "one"
    one.rename(tmp_path / "aside")
    assert looking.look() == []
    (tmp_path / "aside").rename(one)
    assert looking.look(GONE_SECONDS) == []
    assert looking.look(QUIET_SECONDS) == [("one", "final")]
    shutil.rmtree(one)
    assert looking.look() == []
    assert looking.look(GONE_SECONDS) == [("one", "gone")]
    assert looking.look() == []


def test_a_folder_that_cannot_be_read_takes_nothing_away(looking: Looking, tmp_path: Path) -> None:
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    assert looking.look(100) == looking.look(100) == []
    (tmp_path / "elsewhere").rename(tmp_path / "models")
    assert looking.look() == []


def test_a_run_counts_by_its_best(looking: Looking, tmp_path: Path, folders: dict[str, Path]) -> None:
    run = tmp_path / "models" / "run"
    (run / "last").mkdir(parents=True)
    assert looking.look(100) == []
    shutil.copytree(folders["one"], run / "best")
    assert looking.look() == [("run", "new")]
    replace(folders["two"], run / "best")
    assert looking.look() == [("run", "new")]


def test_hidden_folders_and_files_are_no_models(looking: Looking, tmp_path: Path, folders: dict[str, Path]) -> None:
    for name in (".unroll-x", ".one.previous"):
        shutil.copytree(folders["one"], tmp_path / "models" / name)
    (tmp_path / "models" / "file").write_text("x")
    assert looking.look(100) == []
