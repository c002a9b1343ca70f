"""The verbs evaluate and copied on a small checkpoint: what they print, what they refuse, what they need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.checkpoint import save
from model.errors import CorpusError, ParameterError
from tests.model.small import small_checkpoint
from unroll import program

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, with a text beside it."""
    folder = tmp_path_factory.mktemp("run")
    save(small_checkpoint(), folder / "run" / "best")
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 60)
    (folder / "empty.txt").write_text("")
    return folder


def invoke(*words: str | Path) -> str:
    result = CliRunner().invoke(program, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_table_fits_80_columns_and_says_below_what_was_done(run: Path) -> None:
    words: list[str | Path] = ["evaluate", run / "run", run / "text.txt", "--reader", "int8", "--split", "80/10/10"]
    out = invoke(*words, "--protocol", "carried", "--protocol", "cold", "--windows", "8")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines]
    figures = json.loads(invoke(*words, "--json"))["parts"]
    assert ["carried", "validation", "269", f"{figures['validation']['bits_per_character']:.4f}"] == rows[2][:4]
    assert [row[0] for row in rows[2:8]] == ["carried", "test", "validation", "cold", "test", "validation"]
    assert "carried  one pass, the state carried on from character to character" in lines
    assert "         (carried state, one sequence; int8 decoder)" in lines
    assert "cold     every window begins with an empty state, as nanoGPT measures" in lines
    assert "         (cold windows of 256, 8 random, zero state; int8 decoder)" in lines


def test_the_decoder_is_evaluated_without_torch(run: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
from unroll import main
sys.argv = ["unroll", "evaluate", {str(run / "run")!r}, {str(run / "text.txt")!r}, "--reader", "int8", "--json"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["parts"]["whole"]["characters"] == 2_699
    assert done.stderr.decode().splitlines() == ["Scoring, carried: 2,699 ids"]


def test_a_text_or_corpus_without_characters_is_refused(run: Path) -> None:
    with pytest.raises(CorpusError, match=r"empty\.txt is empty, so nothing in it can be copied"):
        invoke("copied", run / "run", run / "text.txt", "--text", run / "empty.txt")
    with pytest.raises(CorpusError, match="The corpus is empty, so nothing can be copied from it"):
        invoke("copied", run / "run", run / "empty.txt")
    with pytest.raises(CorpusError, match="fewer than two characters"):
        invoke("evaluate", run / "run", run / "empty.txt", "--reader", "int8")
    assert "Of 2,700 characters of text.txt" in invoke(
        "copied", run / "run", run / "text.txt", "--text", run / "text.txt"
    )


@pytest.mark.parametrize("protocol", ["carried", "dynamic"])
def test_the_figures_are_the_same_with_any_number_of_threads(run: Path, protocol: str) -> None:
    words = ("evaluate", run / "run", run / "text.txt", "--split", "80/10/10", "--json", "--protocol", protocol)
    sizes = ("--batch-size", "4", "--fit-temperature")
    found = [json.loads(invoke(*words, *sizes, "--threads", threads)) for threads in ("1", "3")]
    assert found[0]["parts"]["test"]["bits_per_character"] == pytest.approx(
        found[1]["parts"]["test"]["bits_per_character"], abs=2e-4
    )
    assert found[0]["temperature"]["fitted"] == pytest.approx(found[1]["temperature"]["fitted"], abs=2e-4)


def test_the_decoder_has_one_thread(run: Path) -> None:
    with pytest.raises(ParameterError, match="has one thread; leave out --threads"):
        invoke("evaluate", run / "run", run / "text.txt", "--reader", "int8", "--threads", "2")
