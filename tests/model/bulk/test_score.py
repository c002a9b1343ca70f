"""`unroll score`: the same scores as /v1/score gives, in order and at once, whatever else is scored."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from model.bulk.score import LineReader, LineScorer
from model.checkpoint import load, save
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.held_out_surprise import NAME, HeldOutSurprise
from service.settings import Settings
from tests.model.small import CHARACTERS, small_checkpoint
from tests.piped import answers_each_line
from tests.service.serving import Running, serving
from unroll import program

ROOT = Path(__file__).parents[3]
KEPT = HeldOutSurprise(
    {4: tuple(float(at) for at in range(11)), 64: tuple(4 + at / 4 for at in range(11))}, "passages of nothing"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that knows how surprising held-out text is."""
    path = tmp_path_factory.mktemp("scored") / "small"
    save(replace(small_checkpoint(), training={NAME: KEPT.to_json()}), path)
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=folder)) as running:
        yield running


def some_lines(count: int, longest: int = 90) -> list[str]:
    random = np.random.default_rng(5)
    letters = list(CHARACTERS.replace("\n", "") + "ŵ日\t\u2028\0")
    return ["".join(random.choice(letters, random.integers(0, longest))) for _ in range(count)]


def run(*arguments: str | Path, standard_input: bytes = b"", code: int = 0) -> Result:
    words = ["score", *map(str, arguments)]
    result = CliRunner(env={"COLUMNS": "400"}).invoke(program, words, input=standard_input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def objects(*arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*arguments, "--format", "jsonl").stdout.splitlines()]


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


@pytest.mark.parametrize("context", ["", "the log\n"])
def test_lines_have_the_scores_of_the_route(folder: Path, server: Running, context: str, tmp_path: Path) -> None:
    lines = [*some_lines(300), "a" * 9000]  # the longest is longer than a block of the sum
    file = write_lines(tmp_path / "lines", lines)
    found = objects(folder, file, "--context", context.replace("\n", r"\n"), "--show")
    assert [one["text"] for one in found] == lines
    assert [one["line"] for one in found] == list(range(1, 302))
    body = {"texts": lines, **({"context": context} if context else {})}
    answers = server.client.post("/v1/score", json=body).raise_for_status().json()["results"]
    for ours, theirs in zip(found, answers, strict=True):
        assert ours["bits"] == theirs["bits"]
        assert ours["bits_per_character"] == theirs["bits_per_character"]
        assert ours["percentile"] == (theirs["anomaly"] and theirs["anomaly"]["percentile"])
        assert sum(ours["surprises"]) == pytest.approx(theirs["bits"], rel=1e-5)
        assert len(ours["surprises"]) == theirs["characters"]


def test_scores_are_the_same_whatever_the_threads_and_blocks(folder: Path) -> None:
    checkpoint = load(folder)
    decoder, lines = Decoder(checkpoint), some_lines(400)
    blocks = {1: [lines], 3: [lines[at : at + 7] for at in range(0, 400, 7)], 2: [[line] for line in lines]}
    found = []
    for threads, parts in blocks.items():
        with LineScorer(decoder, checkpoint.tokenizer, threads=threads) as scorer:
            found.append([score.bits for score in scorer.score(parts) if score is not None])
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) > 300


def test_top_tells_the_oddest_first(folder: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "lines", some_lines(50))
    every = sorted(objects(folder, file), key=lambda one: (one["percentile"] or -1, one["bits_per_character"] or -1))
    assert objects(folder, file, "--top", "7") == every[::-1][:7]


def test_a_threshold_finds_lines_as_grep_does(folder: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "lines", some_lines(50))
    every = objects(folder, file)
    limit = sorted(one["percentile"] or 0 for one in every)[30]
    assert objects(folder, file, "--threshold", str(limit)) == [
        one for one in every if (one["percentile"] or 0) >= limit
    ]
    assert run(folder, write_lines(tmp_path / "none", [""]), "--threshold", "1", code=1).stdout == ""
    assert "cannot be used" in run(folder, tmp_path / "nowhere", "--threshold", "1", code=2).stderr
    assert "cannot be used" in run(folder, tmp_path / "nowhere", code=2).stderr
    assert "There is nothing to score" in run(code=2).stderr
    assert (
        f"There is nothing to score after the checkpoint folder {folder}; name files"
        in run(folder, "--threshold", "1", code=2).stderr
    )


def test_a_threshold_needs_held_out_passages(checkpoint_folder: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "lines", ["a"])
    assert "no held-out passages" in run(checkpoint_folder, file, "--threshold", "1", code=2).stderr
    assert run(checkpoint_folder, file).stdout.split("\t")[3] == "-"


def test_columns_name_the_file_where_there_are_several(folder: Path, tmp_path: Path) -> None:
    first, second = write_lines(tmp_path / "a", ["one\ttwo", ""]), tmp_path / "b"
    second.write_bytes(b"x\r\nlast \xff")
    found = run(folder, first, second)
    rows = [line.split("\t", 5) for line in found.stdout.splitlines()]
    assert [(row[0], row[1], row[5]) for row in rows] == [
        (str(first), "1", "one\ttwo"),
        (str(first), "2", ""),
        (str(second), "1", "x"),
        (str(second), "2", "last \ufffd"),
    ]
    assert rows[1][2:5] == ["0.000", "-", "-"]
    assert all(re.fullmatch(r"\d+\.\d{3}", number) for number in rows[0][2:5])
    assert "has 1 line that is not UTF-8" in found.stderr


def test_characters_that_surprise_are_coloured(folder: Path, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "lines", some_lines(20))
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm"}
    command = [sys.executable, "-m", "unroll", "score", str(folder), str(file), "--show"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    assert b"\x1b[33m" in done.stdout


def test_a_lone_line_is_answered_before_another_comes(folder: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "unroll", "score", str(folder), "-"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert answers_each_line(process, (b"first", b"second"))
        process.stdin.write(b"a line begun, ")
        process.stdin.flush()
        process.stdin.write(b"and ended")
        process.stdin.close()
        assert process.stdout.read().rstrip().endswith(b"a line begun, and ended")
    assert process.returncode == 0


def test_a_line_too_long_to_be_held_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("model.bulk.score.LONGEST_LINE", 1 << 20)
    path = tmp_path / "long"
    path.write_bytes(b"a" * (1 << 21))
    with path.open("rb") as file, pytest.raises(ParameterError, match="break it first"):
        list(LineReader(file.fileno(), "long").blocks())


def test_the_end_of_a_line_may_count(folder: Path, server: Running, tmp_path: Path) -> None:
    """It is scored as a line break in a text is, and not shown."""
    every = some_lines(20)
    found = objects(folder, write_lines(tmp_path / "lines", every), "--ends", "--show")
    body = {"texts": [f"{line}\n" for line in every]}
    results = server.client.post("/v1/score", json=body).raise_for_status().json()["results"]
    assert [one["bits"] for one in found] == [one["bits"] for one in results]
    assert [one["percentile"] for one in found] == [one["anomaly"]["percentile"] for one in results]
    assert [one["text"] for one in found] == every
    assert [one["characters"] for one in found] == [len(line) + 1 for line in every]
    assert [len(one["surprises"]) for one in found] == [len(line) for line in every]


def test_lines_may_be_ranked_by_the_character_that_surprises_most(checkpoint_folder: Path, tmp_path: Path) -> None:
    """Its end is one of them with --ends, and no held-out passages are needed."""
    file = write_lines(tmp_path / "lines", [*some_lines(50), ""])
    by_highest = ["--ends", "--by", "highest"]
    every = objects(checkpoint_folder, file, *by_highest, "--show")
    for one in every:
        end = one["bits"] - sum(one["surprises"])
        assert one["highest"] == pytest.approx(max([*one["surprises"], end]), rel=1e-4)
    expected = sorted(every, key=lambda one: -one["highest"])
    top = objects(checkpoint_folder, file, *by_highest, "--top", "7")
    assert [one["line"] for one in top] == [one["line"] for one in expected[:7]]
    limit = f"{expected[9]['highest']:.3f}"
    found = objects(checkpoint_folder, file, *by_highest, "--threshold", limit)
    assert [one["line"] for one in found] == [one["line"] for one in every if one["highest"] >= float(limit)]
    assert 9 <= len(found) <= 11
    shown = run(checkpoint_folder, file, *by_highest).stdout.split("\n")[0]
    assert shown.split("\t")[3] == f"{every[0]['highest']:.3f}"
    assert "highest" not in objects(checkpoint_folder, file)[0]
    without_end = objects(checkpoint_folder, file, "--by", "highest", "--show")
    assert [one["highest"] for one in without_end[:-1]] == [
        max(one["surprises"], default=None) for one in without_end[:-1]
    ]
    assert without_end[-1]["highest"] is None
