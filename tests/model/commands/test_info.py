"""The verb `info`: what a checkpoint is, for a terminal, in a table and as JSON."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model.checkpoint import BUNDLED, TOKENIZER, WEIGHTS, load, read, save
from model.command_line.console import TerminalConsole
from model.commands.info import describe, show_summary, summary
from tests.model.small import SIZE, small_checkpoint
from unroll import program


def invoke(*arguments: str | Path) -> str:
    result = CliRunner(env={"COLUMNS": "120"}).invoke(program, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_info_says_what_a_checkpoint_is(checkpoint_folder: Path) -> None:
    found = json.loads(invoke("info", checkpoint_folder, "--json"))
    config = load(checkpoint_folder).config
    assert found == {
        "model": str(checkpoint_folder),
        "network": {
            "cell": "lstm",
            "layers": 2,
            "hidden": 24,
            "embedding": 8,
            "skip": False,
            "parameters": config.parameters(),
        },
        "vocabulary": {"ids": SIZE, "characters": SIZE - 256, "characters_never_seen": 0, "bytes_seen": 0},
        "weights": "float32",
        "bytes_on_disk": sum(path.stat().st_size for path in checkpoint_folder.iterdir()),
        "state_bytes_per_stream": 2 * 2 * 24 * 4,
        "digest": read(checkpoint_folder).digests.model,
        "digests": {
            "weights": hashlib.sha256((checkpoint_folder / WEIGHTS).read_bytes()).hexdigest(),
            "tokenizer": hashlib.sha256((checkpoint_folder / TOKENIZER).read_bytes()).hexdigest(),
            "recorded": True,
        },
        "training": {"corpus": {"name": "none"}, "validation_bits_per_character": 4.5},
    }


def test_info_is_a_table_for_a_person(checkpoint_folder: Path) -> None:
    rows = {
        tuple(cell.strip() for cell in line.strip("│").split("│"))
        for line in invoke("info", checkpoint_folder, "--all").splitlines()
        if "│" in line
    }
    assert {("network cell", "lstm"), ("weights", "float32"), ("training corpus name", "none")} <= rows
    assert ("training validation bits per character", "4.5") in rows
    assert not {"network skip"} & {row[0] for row in rows}


def test_info_names_skip_connections_where_there_are_any(tmp_path: Path) -> None:
    save(small_checkpoint(skip=True), tmp_path / "model")
    lines = [
        " ".join(line.replace("│", " ").split()) for line in invoke("info", tmp_path / "model", "--all").splitlines()
    ]
    assert "network skip yes" in lines
    assert "2 × 24 LSTM, skip connections, embedding 8" in invoke("info", tmp_path / "model")


def test_info_says_in_ten_lines_what_a_run_left(tmp_path: Path) -> None:
    training = {
        "corpus": {"files": ["a.txt", "b\x1b[1m\nc", "d", "e"], "characters": 5_000},
        "split": "90/5/5",
        "steps": 1_200,
        "characters_read": 34_000,
        "figures": {"validation": {"bits_per_character": 2.25}, "test": {"bits_per_character": 2.5}},
        "command": "unroll train " + "x" * 500,
    }
    save(replace(small_checkpoint(), training=training), tmp_path / "run" / "best")
    lines = invoke("info", tmp_path / "run").splitlines()
    assert [line.split()[0] for line in lines] == [
        "checkpoint", "network", "vocabulary", "size", "corpus", "training", "validation", "test", "command", "more",
    ]  # fmt: skip
    assert lines[0].endswith("run/best")
    assert "a.txt, b␛[1m␊c and 2 more: 5,000 characters, split 90/5/5" in lines[4]
    assert lines[5].endswith("1,200 steps, 34,000 characters read")
    assert [line.split()[1] for line in lines[6:8]] == ["2.2500", "2.5000"]
    assert lines[9].endswith(f"unroll info {tmp_path}/run/best --all")


@pytest.mark.parametrize("columns", [80, 120])
def test_info_cuts_nothing_on_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too long for a line goes on below itself; of the bundled model all but the command fits."""
    facts = describe(read(BUNDLED), BUNDLED)
    shown = io.StringIO()
    console = TerminalConsole(file=shown, width=columns, force_terminal=True)
    monkeypatch.setattr("model.commands.info.TerminalConsole", lambda: console)
    show_summary(facts, BUNDLED)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= max(columns, len(lines[-1]))
    assert "…" not in shown.getvalue()
    words = " ".join(shown.getvalue().split())
    for value in summary(facts).values():
        assert " ".join(value.split()) in words
    command = next(at for at, line in enumerate(lines) if line.startswith("command"))
    assert command == 1 + list(summary(facts)).index("command")  # after the checkpoint's path


def test_info_says_nothing_of_a_training_that_says_nothing(tmp_path: Path) -> None:
    strange: dict[str, Any] = {"corpus": 3, "figures": [], "steps": "x", "command": {}}
    strangest: dict[str, Any] = {"corpus": {"files": [{}]}}
    for training in (strange, {}, strangest):
        save(replace(small_checkpoint(), training=training), tmp_path / "model")
        assert "vocabulary" in invoke("info", tmp_path / "model")
