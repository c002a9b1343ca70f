"""Bulk work on a Ray cluster: byte for byte what one machine does, also where a node dies in the middle."""

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import save
from model.held_out_surprise import NAME, HeldOutSurprise
from model.online_memory.weights import NAME as MEMORY
from model.online_memory.weights import MemoryWeights
from tests.model.cluster.nodes import Nodes, nodes
from tests.model.small import CHARACTERS, small_checkpoint
from tests.piped import answers_each_line

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # of Ray's own imports
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'unroll[ray]'"),
]

ROOT = Path(__file__).parents[3]
KEPT = HeldOutSurprise(
    {4: tuple(float(at) for at in range(11)), 64: tuple(4 + at / 4 for at in range(11))}, "passages of nothing"
)
SECONDS = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that knows how surprising held-out text is, and has an online memory."""
    path = tmp_path_factory.mktemp("models") / "small"
    save(replace(small_checkpoint(), training={NAME: KEPT.to_json(), MEMORY: MemoryWeights().to_json()}), path)
    return path


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(2) as running:
        yield running


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "unroll", *map(str, words)]


def run(*words: str | Path, standard_input: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        command(*words), cwd=ROOT, input=standard_input, capture_output=True, timeout=SECONDS, check=False
    )
    assert done.returncode == code, done.stderr.decode()
    return done


def some_lines(path: Path, count: int) -> Path:
    random = np.random.default_rng(5)
    letters = list(CHARACTERS.replace("\n", "") + "ŵ日\t\u2028\0")
    lines = ["".join(random.choice(letters, length)) for length in random.integers(0, 90, count)]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode() + b"bytes \xff\nno end")
    return path


LISTS = {
    "text": ["--count", "700", "--prompt", "the", "--max-tokens", "60", "--seed", "7"],
    "jsonl": ["--count", "300", "--format", "jsonl", "--stop", "e", "--temperature", "1.3", "--seed", "8"],
    "unique": ["--count", "200", "--unique", "--max-tokens", "3", "--seed", "9"],
    "pattern": ["--count", "200", "--regex", "[a-z]{2,9}( [a-z]{1,5})*", "--seed", "10"],
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_the_bytes_of_one_machine(folder: Path, cluster: Nodes, name: str) -> None:
    spread = run("generate", folder, *LISTS[name], "--ray", cluster.address)
    assert spread.stdout == run("generate", folder, *LISTS[name]).stdout
    assert len(spread.stdout.splitlines()) >= 200
    assert b"Worked on" in spread.stderr


SCORES = {
    "columns": [],
    "top": ["--top", "20", "--show"],
    "highest": ["--by", "highest", "--threshold", "12", "--ends"],
    "memory": ["--memory", "line", "--ends", "--format", "jsonl", "--context", r"the log\n"],
}


@pytest.mark.parametrize("name", SCORES)
def test_lines_have_the_scores_of_one_machine(folder: Path, cluster: Nodes, name: str, tmp_path: Path) -> None:
    files = [some_lines(tmp_path / "a", 500), some_lines(tmp_path / "b", 20), tmp_path / "empty"]
    files[2].touch()
    spread = run("score", folder, *files, *SCORES[name], "--ray", cluster.address)
    assert spread.stdout == run("score", folder, *files, *SCORES[name]).stdout
    assert spread.stderr.count(b"1 line that is not UTF-8") == 2


def test_a_pipe_is_scored_as_it_comes(folder: Path, cluster: Nodes) -> None:
    words = command("score", folder, "-", "--ray", cluster.address)
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert answers_each_line(process, (b"first", b"second"))
        process.stdin.close()
    assert process.returncode == 0


def wait_for(path: Path, size: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file has so many bytes, while the process that writes it runs."""
    until = time.monotonic() + SECONDS
    while not path.exists() or path.stat().st_size < size:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_node_that_dies_loses_nothing_and_repeats_nothing(folder: Path, cluster: Nodes, tmp_path: Path) -> None:
    """Also what Ray prints about it is not among the lines."""
    file = some_lines(tmp_path / "lines", 60_000)
    out, errors = tmp_path / "scores", tmp_path / "errors"
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        words = command("score", folder, file, "--ray", cluster.address)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr) as process:
            wait_for(out, 1 << 16, process)
            cluster.kill()
            at_death = out.stat().st_size
            assert process.wait(SECONDS) == 0, errors.read_text()
    assert at_death < out.stat().st_size
    cluster.add()
    assert "has been marked dead" in errors.read_text()
    assert out.read_bytes() == run("score", folder, file).stdout


FAILING = """
import pyarrow
from model.cluster import ordered_blocks
from model.cluster.connection import Connection
from model.errors import UnrollError
def work(table):
    raise ValueError("it broke here")
def begin():
    with Connection({address!r}) as connection:
        try:
            list(ordered_blocks.OrderedBlocks(connection).work([pyarrow.table({{"a": [1]}})], work))
        except UnrollError as error:
            print(error)
if {other}:
    ordered_blocks.version = lambda name: "0.0.7"
begin()
"""


@pytest.mark.parametrize(
    ("other", "said"), [(False, "ValueError: it broke here. Each needs"), (True, r"it has Unroll .*, and 0\.0\.7 asks")]
)
def test_what_fails_on_a_node_is_said(cluster: Nodes, other: bool, said: str) -> None:
    code = FAILING.format(address=cluster.address, other=other)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert re.search(f"A node of the cluster could not do its part: {said}", done.stderr), done.stderr
    assert done.stdout == ""


def test_a_cluster_that_is_not_there_loses_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "list"
    done = run("generate", folder, "--count", "5", "--out", out, "--ray", "127.0.0.1:1", code=1)
    assert b"No Ray cluster answers at 127.0.0.1:1" in done.stderr
    assert not out.exists()
