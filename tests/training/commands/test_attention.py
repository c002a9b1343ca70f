"""`unroll train --attention` as a user runs it: a text, a list, trained on, stopped and gone on with."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from model.checkpoint import load
from model.errors import ParameterError
from tests.training.commands.program import unroll

WINDOW = 32
QUICK = ("--layers", "1", "--hidden", "32", "--embedding", "8", "--batch-size", "4", "--seed", "3")
ATTENTION = ("--attention", str(WINDOW))


def words(letters: str) -> list[str]:
    """Items that repeat themselves: two letters and a number, and the same again."""
    chance = random.Random(1)
    each = [f"{a}{chance.choice(letters)}{chance.randint(10, 99)}" for a in letters * 50]
    return [f"{one}-{one}" for one in each]


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list, and a run that learnt it."""
    folder = tmp_path_factory.mktemp("attention")
    (folder / "list.txt").write_text("\n".join(words("abcdef")))
    unroll("train", folder / "list.txt", "--items", *QUICK, *ATTENTION, "--epochs", "10", "--out", folder / "run")
    return folder


def test_a_list_is_learnt_drawn_and_measured_with_attention(trained: Path) -> None:
    best = load(trained / "run" / "best")
    assert best.config.attention == WINDOW
    assert not np.array_equal(best.tensors["attention.recency"], np.full(WINDOW - 1, -np.log(WINDOW), np.float32))
    figures = best.training["figures"]["test"]
    command = ("evaluate", trained / "run", trained / "list.txt", "--split", "90/5/5", "--json")
    for reader, tolerance in (("network", 1e-3), ("int8", 0.1)):
        found = json.loads(unroll(*command, "--reader", reader).splitlines()[-1])["parts"]["test"]
        assert found["items"] == figures["items"]
        assert found["bits_per_character"] == pytest.approx(figures["bits_per_character"], abs=tolerance)
    drawn = unroll("generate", trained / "run" / "best", "--prompt", "", "--seed", "1", "--no-echo", "--raw")
    assert drawn == unroll("generate", trained / "run" / "best", "--prompt", "", "--seed", "1", "--no-echo", "--raw")
    assert re.match("[a-f]", drawn)


def test_a_network_with_attention_is_trained_on_and_keeps_its_window(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("\n".join(words("efgh")))
    base = trained / "run" / "best"
    common = ("train", tmp_path / "more.txt", "--items", "--from", base, "--batch-size", "4")
    unroll(*common, "--epochs", "1", "--out", tmp_path / "on")
    before, after = load(base), load(tmp_path / "on" / "best")
    assert (after.config.attention, after.config.hidden) == (WINDOW, 32)
    assert after.tokenizer.characters == before.tokenizer.characters + "gh"
    assert not np.array_equal(after.tensors["attention.recency"], before.tensors["attention.recency"])
    with pytest.raises(ParameterError, match="leave out --attention"):
        unroll(*common, "--attention", "48", "--out", tmp_path / "other")


def started(*command: Any) -> subprocess.Popen[bytes]:
    whole = [sys.executable, "-m", "unroll", "train", *map(str, command)]
    return subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_run_with_attention_that_was_killed_goes_on_to_the_weights_of_one_left_alone(
    trained: Path, tmp_path: Path
) -> None:
    """In the precision that is planned for this machine, with the kernel where it has one."""
    command = (trained / "list.txt", *QUICK, *ATTENTION, "--threads", "2", "--epochs", "12")
    unroll("train", *command, "--out", tmp_path / "whole")
    process = started(*command, "--out", tmp_path / "run")
    metrics, until = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 100
    while process.poll() is None and time.monotonic() < until:
        if metrics.is_file() and metrics.read_text().count("\n") >= 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert "Resuming" in unroll("train", "--resume", tmp_path / "run")
    for name in ("best", "last"):
        left, right = (weights(tmp_path / run / name) for run in ("whole", "run"))
        assert left.keys() == right.keys()
        assert all(np.array_equal(left[tensor], right[tensor]) for tensor in left)
