"""Training on what people have: runs inside their corpus, names that are no Unicode, files in several encodings."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from model.checkpoint import BUNDLED, load
from model.errors import TrainingError
from tests.unprivileged import unprivileged
from training.loop.run_record import read_record
from training.planning.run_folder import run_folder
from training.planning.train_options import TrainOptions

ROOT = Path(__file__).parents[3]
VERSE = "Frère Jacques, dormez-vous ? Sonnez les matines, ding, dang, dong.\n"
QUICK = ["--layers", "1", "--hidden", "32", "--embedding", "8", "--precision", "fp32"]


def not_resumed(run: Path) -> str:
    with pytest.raises(TrainingError) as raised:
        read_record(run)
    return str(raised.value)


def unroll(*words: str, cwd: Path) -> tuple[str, str]:
    """What a verb that succeeds writes to standard output, on one line, and to standard error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "unroll", *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr.decode()
    return " ".join(done.stdout.decode().split()), done.stderr.decode()


def test_a_run_in_its_own_corpus_with_names_and_files_of_all_kinds_is_trained_and_resumed(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "env").mkdir(parents=True)
    (corpus / "env" / "pyvenv.cfg").write_text("home = /usr")
    (corpus / os.fsdecode(b"only\xff\x1b[31m.txt")).write_text(VERSE * 60)
    (corpus / "new\nline.txt").write_bytes(VERSE.encode("latin-1") * 10)
    (corpus / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    out = os.fsdecode(b"runs/r\xff\nn")
    said, _ = unroll("train", ".", "--out", out, "--epochs", "2", "--on-decode-error", "skip", *QUICK, cwd=corpus)
    assert "corpus only\\xff␛[31m.txt: 4,020 characters, 27 different" in said
    assert "1 file, 3 passed over: 1 binary, 1 not utf-8, 1 virtual environment" in said
    assert "not utf-8 1, skipped: new␊line.txt, from byte 2 on" in said
    assert r"Try: unroll generate $'runs/r\xff\x0an/best'" in said
    training = load(corpus / out / "best").training
    assert training["name"] == "r\\xff␊n"
    assert training["corpus"]["files"] == ["only\\xff␛[31m.txt"]
    assert "r\\xff␊n" in (corpus / out / "report.html").read_text("utf-8")
    again, _ = unroll("train", "--resume", out, cwd=corpus)
    assert "This run is complete" in again
    assert r"unroll train CORPUS --from $'runs/r\xff\x0an/best'" in again
    assert "checkpoint runs/r\\xff␊n/best" in unroll("info", out, cwd=corpus)[0]
    assert json.loads(unroll("info", out, "--json", cwd=corpus)[0])["model"] == out


def test_a_budget_that_is_used_before_the_first_step_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "verse.txt").write_text(VERSE * 60)
    command = [sys.executable, "-m", "unroll", "train", "verse.txt", "--minutes", "0.01", "--out", "runs/a", *QUICK]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=100)
    assert done.returncode == 1
    least = re.search(rb"before its first step.* give it --minutes ([0-9.]+) or more", done.stderr)
    assert least is not None
    assert not (tmp_path / "runs" / "a").exists()
    command[command.index("0.01")] = least[1].decode()
    done = subprocess.run([*command, "--epochs", "1"], cwd=tmp_path, env=environment, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "a" / "best").exists()


def refusal(out: Path, overwrite: bool = False) -> str:
    with pytest.raises(TrainingError) as caught:
        run_folder(TrainOptions(out=out, overwrite=overwrite))
    return str(caught.value)


@pytest.mark.parametrize("name", ["", "best", "last"])
def test_a_run_does_not_replace_what_it_learns_from(name: str, tmp_path: Path, checkpoint_folder: Path) -> None:
    """Killed after that, it could not be resumed, and what it began from would be gone."""
    for kind in ("best", "last"):
        shutil.copytree(checkpoint_folder, tmp_path / "run" / kind)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    source = tmp_path / "link" / name
    for options in (TrainOptions(base=source), TrainOptions(teachers=(BUNDLED, source))):
        with pytest.raises(TrainingError, match=r"would replace .*link.* a resumed run needs; choose another --out"):
            run_folder(replace(options, out=tmp_path / "run", overwrite=True))
        assert run_folder(replace(options, out=tmp_path / "new")) == tmp_path / "new"


def test_a_folder_that_cannot_hold_the_run_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "taken" / "best").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    assert "choose another --out, or --overwrite" in refusal(tmp_path / "taken")
    assert run_folder(TrainOptions(out=tmp_path / "taken", overwrite=True)) == tmp_path / "taken"
    (tmp_path / "taken" / "best" / "notes.txt").write_text("mine")
    assert "best is not a checkpoint and is not replaced by one" in refusal(tmp_path / "taken", overwrite=True)
    for name in ("a" * 300, "é" * 150, "new/" + "a" * 300):
        assert "(File name too long" in refusal(tmp_path / name)
    assert "Not a directory" in refusal(tmp_path / "file" / "run")
    assert "is a file, not a folder" in refusal(tmp_path / "file")
    assert run_folder(TrainOptions(out=tmp_path / "new" / "run")) == tmp_path / "new" / "run"
    assert not (tmp_path / "new").exists()


def test_a_folder_that_may_not_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    base = tmp_path / "base"
    for folder in ("shut", "closed", "free"):
        (base / folder / "inner").mkdir(parents=True)
        (base / folder / "inner").chmod(0o777)
    for folder, mode in {"shut": 0o555, "closed": 0, "free": 0o777, ".": 0o755}.items():
        (base / folder).chmod(mode)
    with unprivileged(base):
        for out in ("free", "free/run", "free/new/run", "shut/inner/run"):
            assert run_folder(TrainOptions(out=Path(out))) == Path(out)
        for out in ("shut", "shut/run", "shut/new/run", "closed/inner", "closed/run"):
            assert "(Permission denied" in refusal(Path(out))
        for run in ("shut/run", "closed/inner/run"):
            assert ("(Permission denied" in not_resumed(Path(run))) == run.startswith("closed")
    with unprivileged(base / "shut"), pytest.raises(TrainingError, match="choose a folder that can be, with --out"):
        run_folder(TrainOptions())
    (base / "shut").chmod(0o755)
    (base / "closed").chmod(0o755)


def test_a_run_is_named_after_its_corpus_however_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"a b.txt": "a b", "é" * 120: "é" * 50, "new\nline": "new_line", os.fsdecode(b"x\xff"): "x_", "-": "stdin"}
    for name, stem in names.items():
        assert run_folder(TrainOptions(corpus=(name,))) == Path("runs") / stem
