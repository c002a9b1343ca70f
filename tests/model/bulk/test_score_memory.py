"""`unroll score --memory`: the scores of /v1/score with its memory, or those of a memory of the whole file."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from typer.testing import CliRunner

from model.bulk.score import LineScorer
from model.checkpoint import load, save
from model.decoding.decoder import Decoder
from model.online_memory.memory import OnlineMemory
from model.online_memory.weights import NAME, MemoryWeights
from model.surprise_sum import BITS
from model.text.frame import TextFrame
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Running, serving
from unroll import program

WEIGHTS = MemoryWeights(protocol="a test")
LINES = [
    "user anna logs in",
    "user ben logs in",
    "",
    "ŵ日",
    "user anna logs in",
    *(f"job {n % 7} done" for n in range(300)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scored") / "small"
    save(replace(small_checkpoint(), training={NAME: WEIGHTS.to_json()}), path)
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=folder)) as running:
        yield running


def objects(*arguments: str | Path, code: int = 0) -> list[dict[str, Any]]:
    result = CliRunner().invoke(program, ["score", *map(str, arguments), "--format", "jsonl"])
    assert result.exit_code == code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize("context", ["", "user carl logs out\n"])
def test_lines_have_the_scores_of_the_route(folder: Path, server: Running, context: str, tmp_path: Path) -> None:
    lines = [*LINES, "long " * 3000]  # whose memory is too large to have many beside it
    file = write(tmp_path / "lines", lines)
    found = objects(folder, file, "--memory", "line", "--context", context.replace("\n", r"\n"))
    body = {"texts": lines, "memory": True, **({"context": context} if context else {})}
    answers = server.client.post("/v1/score", json=body).raise_for_status().json()["results"]
    assert [one["bits"] for one in found] == [one["bits"] for one in answers]
    assert found[-1]["bits"] < objects(folder, file)[-1]["bits"] / 2


def file_bits(folder: Path, lines: list[str]) -> list[float]:
    """The same by one memory that is fed each line's ids and the network's distributions, line after line."""
    checkpoint = load(folder)
    rows, memory, bits = Decoder(checkpoint).rows(1), OnlineMemory(WEIGHTS), []
    begin = rows.state[0].copy()
    for line in lines:
        ids = checkpoint.tokenizer.encode(f"\n{line}\n").astype(np.int32)
        rows.state[0] = begin
        scored = rows.score([0], ids[None, :-1], ids[None, 1:], weights=True)
        assert scored.weights is not None
        assert scored.wholes is not None
        logprobs, _ = memory.score(ids[:-1], ids[1:], scored.weights[0], scored.wholes[0])
        bits.append(float(-logprobs[:-1].sum(dtype=np.float64)) * BITS)
    return bits


def test_a_file_is_remembered_line_by_line(folder: Path, tmp_path: Path) -> None:
    """Also with the ends of lines, which change no other number; each file begins anew."""
    file = write(tmp_path / "lines", LINES)
    found = [one["bits"] for one in objects(folder, file, file, "--memory", "file")]
    assert found[: len(LINES)] == found[len(LINES) :] == pytest.approx(file_bits(folder, LINES), rel=1e-6)
    assert found[4] < found[0] / 2
    ends = objects(folder, file, "--memory", "file", "--ends", "--show")
    inside = [sum(one["surprises"]) for one in ends]
    assert inside == pytest.approx(found[: len(LINES)], rel=1e-5)
    assert all(one["bits"] > bits for one, bits in zip(ends, inside, strict=True))


@pytest.mark.parametrize("remembers", ["line", "file"])
def test_threads_and_blocks_change_nothing(folder: Path, remembers: Literal["line", "file"]) -> None:
    checkpoint, found = load(folder), []
    for threads, size in ((1, 1000), (3, 7), (2, 1)):
        blocks = [LINES[at : at + size] for at in range(0, len(LINES), size)]
        memory: dict[str, Any] = {"memory": WEIGHTS, "remembers": remembers}
        with LineScorer(Decoder(checkpoint), checkpoint.tokenizer, threads=threads, **memory) as scorer:
            found.append([score.bits for score in scorer.score(blocks) if score is not None])
    assert found[0] == found[1] == found[2]


def test_a_checkpoint_without_weights_names_the_remedy(tmp_path: Path) -> None:
    plain = small_checkpoint()
    of_items = replace(plain, tokenizer=plain.tokenizer.framed(TextFrame("\n")))
    for checkpoint, remedy in ((plain, "--write-memory"), (of_items, "for one long text; leave it out")):
        save(checkpoint, tmp_path / "small")
        result = CliRunner(env={"COLUMNS": "400"}).invoke(
            program, ["score", str(tmp_path / "small"), str(write(tmp_path / "lines", ["a"])), "--memory", "line"]
        )
        assert result.exit_code == 2
        assert remedy in result.stderr
