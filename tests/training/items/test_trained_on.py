"""`unroll train --from` a checkpoint of items: what it keeps of its list, what replaces it, and what the plan says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.checkpoint import load
from model.errors import CorpusError, ParameterError
from model.text.frame import TextFrame
from model.text.tokenizer import Tokenizer
from training.items.split import split_items
from unroll import make_program

WORDS = [f"{a}{b}{c}" for a in "kmpt" for b in "aeiou" for c in "lnrs"]
PAIRS = "".join(f"{word}?\t{word[::-1]}\n" for word in WORDS for _ in range(3))
SIZES = ["--layers", "1", "--hidden", "16", "--embedding", "8", "--precision", "fp32", "--epochs", "1"]

Program = Callable[..., str]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Runs a line in a folder of its own; what it prints, on one line. Raises what the verb raises."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        result = CliRunner().invoke(make_program(), list(words))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return " ".join(result.output.split())

    return run


def base_of(program: Program, text: str, *options: str) -> None:
    """A run, `base`, of a list."""
    Path("base.txt").write_text(text)
    program("train", "base.txt", *options, *SIZES, "--out", "base")


def characters_of(run: str) -> int:
    return int(load(Path(run, "best")).training["figures"]["test"]["characters"])


def test_answers_alone_are_learnt_still_until_told_otherwise(program: Program) -> None:
    base_of(program, PAIRS, "--items", "--learn-after", r"\t")
    said = program("train", "base.txt", "--from", "base", "--epochs", "1", "--out", "kept")
    assert r"answers of each item what follows '\t' is learnt and scored" in said
    assert ", whole items, equal ones in one part, as answers to one question" in said
    assert load(Path("kept/best")).training["plan"]["learn_after"] == "\t"
    assert characters_of("kept") == characters_of("base")
    other = program("train", "base.txt", "--from", "base", "--learn-after", "?", "--epochs", "1", "--out", "other")
    assert "answers of each item what follows '?' is learnt and scored" in other
    whole = program("train", "base.txt", "--from", "base", "--learn-after", "", "--epochs", "1", "--out", "whole")
    assert "answers of each item" not in whole
    assert "as answers to one question" not in whole
    tokenizer = Tokenizer.learn([PAIRS]).framed(TextFrame("\n"))
    assert characters_of("whole") == len(split_items(tokenizer.encode(PAIRS), "90/5/5", tokenizer).test)


def test_a_list_without_the_text_is_refused_with_what_can_be_done(program: Program) -> None:
    base_of(program, PAIRS, "--items", "--learn-after", r"\t")
    Path("plain.txt").write_text("".join(f"{word}\n" for word in WORDS * 10))
    none = r"No item has '\\t', after which it would be learnt; "
    with pytest.raises(CorpusError, match=none + "choose another --learn-after, or '' to learn all of each item"):
        program("train", "plain.txt", "--from", "base", "--epochs", "1", "--out", "run")
    with pytest.raises(CorpusError, match=none + "name another list"):
        program("evaluate", "base", "plain.txt", "--split", "90/5/5")


def test_where_questions_are_few_they_are_named(program: Program) -> None:
    """Of many different answers to a handful of questions none is held out."""
    few = "".join(f"{word}?\t{answer}\n" for word in WORDS[:5] for answer in WORDS)
    base_of(program, PAIRS, "--items", "--learn-after", r"\t")
    Path("few.txt").write_text(few)
    said = program("train", "few.txt", "--from", "base", "--epochs", "1", "--out", "run")
    assert said.count("fewer than 20 different questions, so none is held out") == 2  # in the plan and in the end
    assert "different items" not in said
    with pytest.raises(CorpusError, match="has fewer than 20 different questions, so none is held out"):
        program("evaluate", "run", "few.txt", "--split", "90/5/5")


def test_the_separator_stays_also_beside_labels(program: Program) -> None:
    base_of(program, "".join(f"A|{word}\n{word}\n\n" for word in WORDS * 3), "--item-separator", r"\n\n")
    Path("more.txt").write_text("".join(f"B|{word}\n{word}\n\n" for word in WORDS))
    program("train", "more.txt", "--from", "base", "--label", "prefix", "--epochs", "1", "--out", "labelled")
    frame = load(Path("labelled/best")).tokenizer.frame
    assert (frame.separator, frame.labels) == ("\n\n", ("B",))
    program("train", "base.txt", "--from", "base", "--items", "--epochs", "1", "--out", "lines")
    assert load(Path("lines/best")).tokenizer.frame.separator == "\n"


def test_labels_stay_and_those_of_the_new_list_join_where_they_are_asked_for(program: Program) -> None:
    base_of(program, "".join(f"A|{word}\n" for word in WORDS * 5), "--label", "prefix")
    Path("more.txt").write_text("".join(f"B|{word}\n" for word in WORDS))
    said = program("train", "more.txt", "--from", "base", "--epochs", "1", "--out", "kept")
    assert "labels 1: A, all of the checkpoint; --label reads those of this list, too" in said
    both = program("train", "more.txt", "--from", "base", "--label", "prefix", "--epochs", "1", "--out", "both")
    assert "labels 2: A, B" in both
    assert "of the checkpoint" not in both
    config = json.loads(Path("both/best/config.json").read_text())
    assert config["texts"]["labels"] == ["A", "B"]


def test_a_teacher_of_texts_is_refused_where_the_checkpoint_is_of_items(program: Program) -> None:
    text = "".join(f"{word}\n" for word in WORDS * 10)
    base_of(program, text, "--items")
    program("train", "base.txt", *SIZES, "--out", "teacher")
    with pytest.raises(ParameterError, match="--teacher is for one long text; leave it out for a list of items"):
        program("train", "base.txt", "--from", "base", "--teacher", "teacher", "--epochs", "1", "--out", "run")
