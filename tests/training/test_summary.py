"""What a run prints of itself: its corpus and plan before, its results after, within 80 columns."""

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.text import Text

from model.command_line.console import TerminalConsole
from model.config import NetworkConfig
from training.data.named_corpus import open_corpus
from training.data.prepared_corpus import prepare
from training.data.split import Split, split
from training.evaluation.score import Score
from training.loop.finished_run import FinishedRun
from training.loop.run_record import RunRecord
from training.monitoring.watcher import Validation
from training.planning.config import TrainingConfig
from training.planning.plan import Plan
from training.planning.train_options import TrainOptions
from training.results import Results
from training.summary import show_outcome, show_plan

CONFIG = TrainingConfig(
    network=NetworkConfig(cell="lstm", layers=2, hidden=320, embedding=64, vocabulary=300), minutes=5
)
IDS = np.zeros(10, np.uint16)


def console_of(width: int) -> TerminalConsole:
    return TerminalConsole(file=io.StringIO(), force_terminal=True, width=width)


def lines_of(console: TerminalConsole) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in Text.from_ansi(console.file.getvalue()).plain.splitlines()]


def outcome(run: FinishedRun, width: int = 80, resumable: bool = True) -> list[str]:
    console = console_of(width)
    figures = {
        name: Score(100.0 + number, 70, f"a protocol of {'cold' if 'cold' in name else 'carried'} words")
        for number, name in enumerate(
            f"{part}{cold}" for cold in ("", ", cold") for part in ("validation", "test", "validation and test")
        )
    }
    show_outcome(console, run, Results(figures, "Of 10,000 characters, none.", ["A note " * 20]), "Done", resumable)
    return lines_of(console)


def validation(step: int, bits: float) -> Validation:
    return Validation(
        step=step, characters=1, seconds=1.0, progress=0.5, rate=0.1, characters_per_second=1.0, train_bits=2.0,
        validation_bits=bits, gradient_norm=1.0, samples={}, best=True,
    )  # fmt: skip


FINISHED = FinishedRun(
    folder=Path("runs/a book"), config=CONFIG, split=Split("90/5/5", IDS, IDS, IDS), device=torch.device("cpu"),
    dtype="float32", step=20, best_step=10, validations=(validation(10, 2.27), validation(20, 2.215)), elapsed=1.0,
    seconds=1.0, stale=1, stopped_early=False,
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_there_is_one_headline_and_the_protocols_are_in_a_table_with_their_words(width: int) -> None:
    lines = outcome(FINISHED, width)
    assert lines[0] == "Done: test 2.08 bits per character. 20 steps, best at step 10."
    assert max(map(len, lines)) <= width
    table = [line.split() for line in lines[2:5]]
    assert table[0] == ["bits", "per", "character", "validation", "test", "validation", "and", "test"]
    assert table[1][:3] == ["carried", "2.0610", "2.0816"]
    assert table[2][0] == "cold"
    words = " ".join(" ".join(lines).split())
    assert "carried one pass, the state carried on" in words
    assert "(a protocol of cold words)" in words
    assert lines[-3:] == [
        "Report: 'runs/a book/report.html'",
        "Try:    unroll generate 'runs/a book/best'",
        "Serve:  unroll serve 'runs/a book/best'",
    ]


def test_a_stopped_run_says_why_its_last_check_is_lower_and_how_to_go_on() -> None:
    stopped = replace(FINISHED, stopped_early=True)
    words = " ".join(outcome(stopped))
    assert "The check after the stop, 2.215 bits, is lower than that of `best`, 2.270" in words
    assert "Resume: unroll train --resume 'runs/a book'" in words
    assert "The check after the stop" not in " ".join(outcome(FINISHED))
    higher = replace(stopped, validations=(validation(10, 2.27), validation(20, 2.3)))
    assert "The check after the stop" not in " ".join(outcome(higher))


def test_a_run_from_a_pipe_is_not_told_to_resume() -> None:
    words = " ".join(outcome(replace(FINISHED, stopped_early=True), resumable=False))
    assert "--resume" not in words
    assert "came through a pipe, so the run cannot be resumed; train its `best` on with --from" in words


@pytest.mark.parametrize("kind", ["standard input", "named pipe", "file"])
def test_a_run_knows_whether_its_corpus_can_be_read_again(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.txt").write_text("text\n" * 900)
    os.mkfifo(tmp_path / "pipe")
    name = {"standard input": "-", "named pipe": str(tmp_path / "pipe"), "file": str(tmp_path / "a.txt")}[kind]
    prepared = prepare(open_corpus([str(tmp_path / "a.txt")]), tmp_path / "kept")
    record = RunRecord.of(TrainOptions(corpus=(name,)), Plan(CONFIG, 1.0, None), prepared, None)
    (tmp_path / "pipe").unlink()  # as a shell's <(command) is gone after the run
    assert record.resumable == (kind == "file")


@pytest.mark.parametrize("width", [80, 120])
def test_the_plan_counts_what_was_read_and_what_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("corpus")
    folder.mkdir()
    common = "def f(x): return x\n" * 60_000
    (folder / "code.py").write_text(common + "".join(map(chr, range(0x4E00, 0x4E00 + 1_000))))
    (folder / "latin\x1b[1m.txt").write_bytes(b"caf\xe9")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (folder / "link").symlink_to("/usr")
    corpus = open_corpus([str(folder)], on_decode_error="skip")
    prepared = prepare(corpus, tmp_path / "kept", min_count=None)
    console = console_of(width)
    show_plan(console, Plan(CONFIG, 1.5, 1e5), corpus, prepared, split(prepared.ids, "90/5/5"), torch.device("cpu"))
    lines = lines_of(console)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    assert "corpus code.py: 1,141,000 characters, 1,013 different" in words
    assert "files 1 file, 3 passed over: 1 binary, 1 linked folder, 1 not utf-8" in words
    assert "not utf-8 1, skipped: corpus/latin␛[1m.txt, from byte 3 on" in words
    assert "characters 13 have an id; the others, 0.0876 % of the text, occur less than 10 times each" in words
    assert "regularisation weight decay 0.02" in words
    assert "left out" not in words
