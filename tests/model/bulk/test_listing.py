"""`unroll generate --count`: what stands in a list, in which form, what is kept, and how it goes on after Ctrl-C."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from model.checkpoint import load, save
from model.command_line.terminal import percent
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.generate import generate
from model.sampling.parameters import SamplingParameters
from model.text.frame import TextFrame
from tests.model.small import small_checkpoint
from unroll import program

ROOT = Path(__file__).parents[3]


def run(folder: Path, *arguments: str | Path, code: int = 0, seed: tuple[str, ...] = ("--seed", "7")) -> Result:
    """`unroll generate` in this process."""
    words = ["generate", str(folder), *seed, "--max-tokens", "60", *map(str, arguments)]
    result = CliRunner(env={"COLUMNS": "400"}).invoke(program, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def lines(folder: Path, *arguments: str | Path) -> list[str]:
    return run(folder, *arguments).stdout.removesuffix("\n").split("\n")


def text(folder: Path, prompt: str, choice: int, **settings: Any) -> str:
    checkpoint = load(folder)
    parameters = SamplingParameters(seed=7, temperature=0.8)
    drawn = generate(
        Decoder(checkpoint),
        checkpoint.tokenizer,
        prompt,
        parameters=parameters,
        choice=choice,
        **{"max_tokens": 60, "stop": ["\n"], **settings},
    )
    return "".join(piece.text for piece in drawn)


def test_a_list_is_the_texts_of_the_seed_up_to_a_line_break(checkpoint_folder: Path) -> None:
    assert lines(checkpoint_folder, "--count", "5") == [text(checkpoint_folder, "", choice) for choice in range(5)]


def test_an_item_begins_with_the_last_line_of_the_prompt(checkpoint_folder: Path) -> None:
    expected = [text(checkpoint_folder, "one\ntwo", choice) for choice in range(3)]
    options = ["--count", "3", "--prompt", r"one\ntwo"]
    assert lines(checkpoint_folder, *options) == [f"two{item}" for item in expected]
    assert lines(checkpoint_folder, *options, "--no-echo") == expected


def test_raw_prompts_and_stop_strings_are_letters(checkpoint_folder: Path) -> None:
    assert lines(checkpoint_folder, "--count", "2", "--raw", "--no-echo", "--prompt", r"a\n", "--stop", r"\n") == [
        text(checkpoint_folder, r"a\n", choice, stop=[r"\n"]).replace("\n", r"\n") for choice in range(2)
    ]


def test_every_form_has_the_same_items(checkpoint_folder: Path) -> None:
    options = ["--count", "30", "--stop", "e"]
    plain = lines(checkpoint_folder, *options)
    objects = [json.loads(line) for line in lines(checkpoint_folder, *options, "--format", "jsonl")]
    rows = list(csv.reader(io.StringIO(run(checkpoint_folder, *options, "--format", "csv").stdout, newline="")))
    assert any("\\n" in line for line in plain)
    assert [one["text"].replace("\n", "\\n") for one in objects] == plain
    assert rows[0] == ["index", "text", "finish_reason"]
    assert rows[1:] == [[str(one["index"]), one["text"], one["finish_reason"]] for one in objects]
    assert [one["index"] for one in objects] == list(range(30))


def test_nothing_else_is_on_standard_output_and_the_report_tells_shares(checkpoint_folder: Path) -> None:
    found = run(checkpoint_folder, "--count", "40", "--regex", "[ab]{1,3}", "--check", "grep '^a'")
    items = found.stdout.splitlines()
    assert len(items) == 40
    assert "40 items, " in found.stderr
    assert f"; {len(set(items))} different, {percent(len(set(items)) / 40)}" in found.stderr
    assert f"{percent(sum(item[0] == 'a' for item in items) / 40)} valid by `grep '^a'`" in found.stderr


def test_a_check_that_writes_nothing_is_told_what_it_has_to_write(checkpoint_folder: Path) -> None:
    report = run(checkpoint_folder, "--count", "3", "--check", "grep -q ''").stderr
    assert "0 % valid by `grep -q ''` (it wrote none; it has to write those that are valid)" in " ".join(report.split())
    assert "it wrote none" not in run(checkpoint_folder, "--count", "3", "--check", "cat").stderr


def test_a_check_that_fails_is_told(checkpoint_folder: Path) -> None:
    assert (
        "the check `exit 3` failed with exit code 3"
        in run(checkpoint_folder, "--count", "2", "--check", "exit 3").stderr
    )


def test_unique_and_novel_lists_are_what_is_left_of_the_draws(checkpoint_folder: Path, tmp_path: Path) -> None:
    options = ["--regex", "[abcd]{2}", "--temperature", "3"]
    draws = lines(checkpoint_folder, *options, "--count", "400")
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(b"aa\r\nab\nbb")
    new = [item for item in dict.fromkeys(draws) if item not in ("aa", "ab", "bb")]
    assert len(new) == 13
    for threads in ("1", "3"):
        wanted: list[str | Path] = ["--unique", "--novel-to", corpus, "--threads", threads, "--count", "10"]
        assert lines(checkpoint_folder, *options, *wanted) == new[:10]
    novel = lines(checkpoint_folder, *options, "--novel-to", corpus, "--count", "50")
    assert novel == [item for item in draws if item not in ("aa", "ab", "bb")][:50]


def test_items_of_a_model_end_as_its_own_do_and_are_looked_for_so(tmp_path: Path) -> None:
    plain = small_checkpoint()
    save(replace(plain, tokenizer=plain.tokenizer.framed(TextFrame(separator="e"))), tmp_path / "items")
    listed = lines(tmp_path / "items", "--count", "40", "--format", "jsonl", "--max-tokens", "300")
    drawn = [json.loads(line) for line in listed]
    assert {item["finish_reason"] for item in drawn} == {"stop"}
    assert any("\n" in item["text"] for item in drawn)
    assert not any("e" in item["text"] for item in drawn)
    (tmp_path / "old.txt").write_text("e".join(item["text"] for item in drawn[:30]))
    options = ("--count", "10", "--max-tokens", "300", "--novel-to", tmp_path / "old.txt")
    known = {item["text"] for item in drawn[:30]}
    new = [item["text"].replace("\n", "\\n") for item in drawn if item["text"] not in known]
    assert lines(tmp_path / "items", *options)[: len(new)] == new


def test_it_gives_up_where_nothing_is_left(checkpoint_folder: Path) -> None:
    found = run(checkpoint_folder, "--regex", "[ab]", "--count", "3", "--unique", code=1)
    assert sorted(found.stdout.split()) == ["a", "b"]
    assert re.search(r"2 of 3 items were found in 10,0\d\d tries, none in the last 10,000", found.stderr)


def test_what_is_unique_is_a_share_of_the_draws_that_were_needed(checkpoint_folder: Path, tmp_path: Path) -> None:
    options = ["--regex", "[abcd]{2}", "--temperature", "3"]
    draws = lines(checkpoint_folder, *options, "--count", "400")
    for corpus, novel in ((), ""), (("aa", "bc"), "novel "):
        (tmp_path / "corpus.txt").write_text("\n".join(corpus))
        more: list[str | Path] = ["--novel-to", tmp_path / "corpus.txt"] if corpus else []
        others = [item for item in draws if item not in corpus]
        needed = next(end for end in range(len(others)) if len(set(others[:end])) == 9)
        found = run(checkpoint_folder, *options, "--unique", "--count", "9", *more)
        assert f"; each once: {percent(9 / needed)} of {needed} {novel}draws were new to the list" in found.stderr


def test_one_item_is_no_items(checkpoint_folder: Path) -> None:
    assert run(checkpoint_folder, "--count", "1", "--regex", "[ab]").stderr.startswith("1 item, ")


@pytest.mark.parametrize("form", ["text", "jsonl", "csv"])
@pytest.mark.parametrize("extra", [[], ["--unique"]])
def test_an_interrupted_list_goes_on_as_if_nothing_had_happened(
    form: str, extra: list[str], checkpoint_folder: Path, tmp_path: Path
) -> None:
    options = ["--regex", "[a-h]{8,9}", "--format", form, *extra]
    whole, part = tmp_path / "whole", tmp_path / "part"
    run(checkpoint_folder, *options, "--count", "300", "--out", whole)
    command = [sys.executable, "-m", "unroll", "generate", str(checkpoint_folder), "--seed", "7", "--max-tokens", "60"]
    process = subprocess.Popen(
        [*command, *options, "--count", "1000000", "--out", str(part)], cwd=ROOT, stderr=subprocess.PIPE
    )
    journal = tmp_path / ".part.unroll"
    while not journal.exists() or not part.exists() or part.stat().st_size < 100:  # more than a header
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"--resume goes on" in said
    there = json.loads(journal.read_text())["counts"]["kept"]
    with part.open("ab") as file:  # as a power cut leaves it: more was written than the journal knows
        file.write(b"half a li")
    run(checkpoint_folder, *options, "--count", str(max(300, there)), "--out", part, "--resume", seed=())
    assert not journal.exists()
    assert part.read_bytes()[: whole.stat().st_size] == whole.read_bytes()
    assert there > 0 or part.read_bytes() == whole.read_bytes()


def test_a_list_is_resumed_only_with_what_it_was_begun_with(checkpoint_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "list"
    run(checkpoint_folder, "--count", "3", "--out", out)
    with pytest.raises(ParameterError, match="is there already; choose another --out, or remove it"):
        run(checkpoint_folder, "--count", "3", "--out", out)
    complete = out.read_bytes()
    assert "has its 3 items already" in run(checkpoint_folder, "--count", "3", "--out", out, "--resume").stderr
    assert out.read_bytes() == complete
    with pytest.raises(ParameterError, match="is complete, or is no list that was begun"):
        run(checkpoint_folder, "--count", "5", "--out", out, "--resume")
    settings = {"seed": 8, "temperature": 0.1}
    entry = {"settings": settings, "bytes": 2, "counts": {}}
    (tmp_path / ".list.unroll").write_text(json.dumps(entry))
    with pytest.raises(ParameterError, match=r"was begun with another .*seed.*temperature"):
        run(checkpoint_folder, "--count", "5", "--out", out, "--resume")
    assert out.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--unique"], "--unique needs a list"),
        (["--count", "3", "--n", "2"], "leave out --n"),
        (["--count", "3", "--resume"], "name it with --out"),
        (["--count", "3", "--novel-to", "nowhere"], "nowhere cannot be read"),
    ],
)
def test_what_does_not_go_together_is_refused(options: list[str], sentence: str, checkpoint_folder: Path) -> None:
    with pytest.raises(ParameterError, match=sentence):
        run(checkpoint_folder, *options)


def test_the_report_says_what_share_matches_the_constraint(checkpoint_folder: Path) -> None:
    """Of items that a stop string cuts off, some do not; each is held against the pattern anew."""
    whole = run(checkpoint_folder, "--count", "30", "--regex", "[abc]{2,4}d?")
    assert "; 100 % match the constraint." in whole.stderr
    cut = run(checkpoint_folder, "--count", "30", "--regex", "[abc]{2}[abcd]{1,2}", "--stop", "d")
    matching = sum(bool(re.fullmatch("[abc]{2}[abcd]{1,2}", line)) for line in cut.stdout.splitlines())
    assert 0 < matching < 30
    assert f"; {percent(matching / 30)} match the constraint." in cut.stderr
