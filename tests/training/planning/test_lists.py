"""Lists are told from texts by their lines: short, hardly one empty, and sorted or in no order."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.text.tokenizer import Tokenizer
from training.data.sources import reference_prose
from training.planning.lists import FEWEST_LINES, Lines, lines_of
from unroll import make_program

Read = Callable[[str], bytes]


def lines(text: str) -> Lines:
    tokenizer = Tokenizer.learn([text])
    return lines_of(tokenizer.encode(text), tokenizer)


def ordered(text: str, how: str) -> str:
    parts = text.splitlines()
    if how == "shuffled":
        random.Random(3).shuffle(parts)
    elif how != "as it comes":
        parts.sort(reverse=how == "reversed")
    return "".join(part + "\n" for part in parts)


@pytest.mark.parametrize("order", ["as it comes", "shuffled", "sorted", "reversed"])
@pytest.mark.parametrize("name", ["names.txt", "events.jsonl", "fra-eng.txt"])
def test_lists_are_recognised_in_any_order(name: str, order: str, corpus: Read) -> None:
    assert lines(ordered(corpus(name).decode("utf-8"), order)).are_a_list


@pytest.mark.parametrize(
    "name", ["tinyshakespeare.txt", "war-and-peace.txt", "genesis-french.latin1.txt", "tang-poems.txt"]
)
def test_texts_are_none(name: str, corpus: Read) -> None:
    text = corpus(name).decode("latin-1" if "latin1" in name else "utf-8").replace("\r\n", "\n")
    assert not lines(text).are_a_list
    without_empty_lines = lines("".join(line + "\n" for line in text.splitlines() if line.strip()))
    assert without_empty_lines.gain > 0.02
    assert not without_empty_lines.are_a_list


def test_few_lines_and_long_ones_are_no_list() -> None:
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefgh", k=6)) for _ in range(3000)]
    assert lines("".join(word + "\n" for word in words)).are_a_list
    assert not lines("".join(word + "\n" for word in words[: FEWEST_LINES - 1])).are_a_list
    long = [" ".join(chance.choices(words, k=300)) for _ in range(FEWEST_LINES)]
    assert not lines("".join(line + "\n" for line in long)).are_a_list
    assert not lines("one line without an end").are_a_list


def test_the_reference_prose_is_a_text() -> None:
    with reference_prose().open() as file:
        assert not lines(file.read().decode("utf-8")).are_a_list


def test_the_plan_advises_items_and_does_not_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    (tmp_path / "words.txt").write_text("".join("".join(chance.choices("abcdef", k=8)) + "\n" for _ in range(400)))
    monkeypatch.chdir(tmp_path)
    common = ["--epochs", "0.2", "--hidden", "16", "--layers", "1", "--embedding", "8", "--precision", "fp32", "--out"]
    said = CliRunner().invoke(make_program(), ["train", "words.txt", *common, "plain"]).output
    assert "400 lines of 8 characters on the average, in no order: this seems to be a list" in " ".join(said.split())
    assert "bits per item" not in said
    said = CliRunner().invoke(make_program(), ["train", "words.txt", "--items", *common, "items"]).output
    assert "seems to be a list" not in " ".join(said.split())
    assert "bits per item" in said
