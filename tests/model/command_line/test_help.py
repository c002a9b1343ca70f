"""What `--help` looks like on a terminal, and what is said to somebody who mistyped a verb, a flag or a value."""

import re

import pytest

from tests.service.serving import program
from unroll import VERBS


def page(verb: str, columns: int) -> list[str]:
    return program(*verb.split(), "--help", COLUMNS=str(columns)).stdout.splitlines()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_has_two_columns_that_fit_and_breaks_no_word(verb: str, columns: int) -> None:
    lines = page(verb, columns)
    assert max(map(len, lines)) <= columns
    tables = lines[min(lines.index(title) for title in ("Arguments:", "Options:") if title in lines) :]
    begin = {len(row[1]) for line in tables if (row := re.match(r"(  \S.*? {2,}| {10,})\S", line))}
    assert begin == {30}
    assert set(" ".join(tables).split()) <= set(" ".join(page(verb, 500)).split())


def test_help_tells_what_a_value_is_in_words() -> None:
    shown = " ".join(" ".join(page("generate", 100)).split())
    assert "--json Print one JSON object" in shown  # a switch takes no value
    assert "--n INTEGER How many texts to generate. [default: 1; 1 to 1024]" in shown
    assert "--format text|jsonl|csv" in shown
    assert "[UNROLL_MAX_MODEL_BYTES; default: 1073741824; 1048576 or more]" in shown
    assert page("train", 80)[0] == "Usage: unroll train [OPTIONS] [CORPUS]..."
    assert page("evaluate", 80)[0] == "Usage: unroll evaluate [OPTIONS] CHECKPOINT CORPUS..."


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trian", "There is no verb 'trian'; did you mean train?"),
        ("qqq", "There is no verb 'qqq'; choose train, serve,"),
        ("generate --tempature 1", "No such option: --tempature. Did you mean --temperature?"),
        ("train --minuts 3", "No such option: --minuts. Did you mean --minutes?"),
        ("generate --n abc", "Invalid value for '--n': give a whole number."),
        ("generate --n 0", "Invalid value for '--n': give 1 or more."),
        ("score --threshold 101 -", "Invalid value for '--threshold': give 100 or less."),
        ("generate --temperature hot", "Invalid value for '--temperature': give a number."),
        ("generate --arithmetic int9", "Invalid value for '--arithmetic': 'int9' is not one of 'int8', 'fp32'."),
        ("serve --port abc", "give a whole number."),
        ("evaluate a b --lanes 0", "Invalid value for '--lanes': give 1 or more."),
        ("evaluate a b --batch-size 0", "Invalid value for '--batch-size': give 1 or more."),
        ("evaluate a", "Missing argument 'CORPUS...'."),
    ],
)
def test_what_is_mistyped_is_told_in_our_words(line: str, said: str) -> None:
    done = program(*line.split())
    assert done.returncode == 2
    assert said in done.stderr
    assert "Input should be" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "info _",
        "train _",
        "evaluate a _",
        "score _",
        "compare a _",
        "serve _",
        "train a --teacher _",
        "generate --out _",
    ],
)
def test_an_empty_text_is_no_path(words: str) -> None:
    """It is what a shell makes of a variable that is not set, and was read as the current folder."""
    done = program(*("" if word == "_" else word for word in words.split()))
    assert done.returncode == 2
    assert "an empty text is not a path; name a file or a folder, or . for this one." in " ".join(done.stderr.split())
