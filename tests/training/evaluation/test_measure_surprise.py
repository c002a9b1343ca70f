"""The surprise of held-out passages is what reading each by itself says, and is kept where a service finds it."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model.checkpoint import BUNDLED, CARD, CONFIG, TOKENIZER, WEIGHTS, Checkpoint, load, read, save
from model.config import WeightsDtype
from model.held_out_surprise import NAME, QUANTILES, HeldOutSurprise
from tests.model.damage import without_digests
from tests.model.plain import distributions
from tests.model.small import CHARACTERS, small_checkpoint
from tests.training.verse import TEXT, make_trainer
from training.data.corpus import CorpusFacts
from training.data.split import split
from training.evaluation.measure_surprise import PASSAGES, held_out_surprise
from training.report.card import CARD_LINE, card_line, rewrite
from training.results import Provenance, leave_results
from unroll import program

RANDOM = np.random.default_rng(5)
WORDS = "".join(RANDOM.choice(list(CHARACTERS + "ŵ日"), 200))  # two characters are spelt in bytes
LINES = "\n".join("".join(RANDOM.choice(list("abc é明"), RANDOM.integers(0, 30))) for _ in range(300))


def plain_bits(checkpoint: Checkpoint, text: str) -> float:
    """Bits per character of a text after a line break, a step at a time."""
    nats = -sum(float(logprobs[token]) for token, logprobs in distributions(checkpoint, text))
    return nats / math.log(2) / len(text)


def test_a_short_text_s_passages_begin_at_every_character() -> None:
    checkpoint = small_checkpoint()
    measured = held_out_surprise(checkpoint, checkpoint.tokenizer.encode(WORDS))
    assert measured is not None
    assert list(measured.lengths) == [4, 8, 16, 32, 64, 128]  # no passage of 256 fits
    for length, quantiles in measured.lengths.items():
        every = [plain_bits(checkpoint, WORDS[at : at + length]) for at in range(len(WORDS) - length + 1)]
        assert quantiles == pytest.approx(np.percentile(every, QUANTILES), abs=1e-4)


def test_a_long_text_s_passages_begin_where_lines_do() -> None:
    checkpoint = small_checkpoint()
    measured = held_out_surprise(checkpoint, checkpoint.tokenizer.encode(LINES))
    assert measured is not None
    begins = [at for at in range(1, len(LINES) - 64) if LINES[at - 1] == "\n" != LINES[at]]
    assert len(begins) >= 64
    assert len({LINES[at : at + 64] for at in begins}) > PASSAGES  # so that not all of them were read
    every = [plain_bits(checkpoint, LINES[at : at + 64]) for at in begins]
    assert min(every) - 1e-4 <= measured.lengths[64][0]
    assert measured.lengths[64][-1] <= max(every) + 1e-4
    assert measured.lengths[64][5] == pytest.approx(np.median(every), abs=0.02)


def test_without_text_or_time_there_is_none() -> None:
    checkpoint = small_checkpoint()
    encode = checkpoint.tokenizer.encode
    assert held_out_surprise(checkpoint, encode("")) is None
    assert held_out_surprise(checkpoint, encode("abcdefg")) is None
    assert held_out_surprise(checkpoint, encode(WORDS), seconds=-1) is None


def test_it_is_put_into_a_checkpoint_once_and_nothing_else_changes(tmp_path: Path) -> None:
    save(small_checkpoint(), tmp_path / "small")
    before = {path.name: path.read_bytes() for path in (tmp_path / "small").iterdir()}
    text = load(tmp_path / "small").tokenizer.encode(WORDS)
    rewrite(tmp_path / "small", text[:100])
    kept = rewrite(tmp_path / "small", text)
    after = {path.name: path.read_bytes() for path in (tmp_path / "small").iterdir()}
    assert after.keys() == before.keys()
    assert [after[name] for name in (WEIGHTS, TOKENIZER)] == [before[name] for name in (WEIGHTS, TOKENIZER)]
    written, original = json.loads(after[CONFIG]), json.loads(before[CONFIG])
    assert written["training"].pop(NAME) == kept.to_json()
    assert written["digests"].pop("config") != original["digests"].pop("config")
    assert written == original
    assert after[CARD].decode() == before[CARD].decode() + f"\n{card_line(kept)}\n"
    assert HeldOutSurprise.of(load(tmp_path / "small").training) is not None


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_run_measures_it_on_its_validation_part_alone_and_of_what_it_keeps(
    dtype: WeightsDtype, tmp_path: Path
) -> None:
    one = make_trainer(tmp_path, epochs=2, fit_temperature=True)
    one.dtype = dtype
    run = one.run()
    facts = CorpusFacts(names=("verse.txt",), characters=len(TEXT), encoding="utf-8", sha256="0" * 64)
    leave_results(run, Provenance(facts, "a machine", "unroll train verse.txt"), 10_000)
    best = load(tmp_path / "best")
    expected = held_out_surprise(best, one.split.validation)
    assert expected is not None
    assert best.training[NAME] == expected.to_json()
    assert list(expected.lengths) == [4, 8, 16, 32, 64, 128]
    assert best.card.count(CARD_LINE) == 1
    assert best.card.endswith(f"{card_line(HeldOutSurprise.of(best.training) or expected)}\n")


def test_the_bundled_model_s_comes_from_the_same_code(corpus: Callable[[str], bytes], tmp_path: Path) -> None:
    folder = tmp_path / "shakespeare"
    shutil.copytree(BUNDLED, folder)
    ids = load(folder).tokenizer.encode(corpus("tinyshakespeare.txt").decode())
    rewrite(folder, split(ids, "nanogpt").validation)
    for name in (CONFIG, CARD, WEIGHTS, TOKENIZER):
        assert (folder / name).read_bytes() == (BUNDLED / name).read_bytes(), name


def test_an_older_checkpoint_gets_digests_with_it(tmp_path: Path) -> None:
    save(small_checkpoint(), tmp_path / "small")
    without_digests(tmp_path / "small")
    before = read(tmp_path / "small").digests
    assert not before.recorded
    rewrite(tmp_path / "small", load(tmp_path / "small").tokenizer.encode(WORDS))
    assert read(tmp_path / "small").digests == replace(before, recorded=True)


def test_the_verb_puts_it_into_a_checkpoint(tmp_path: Path) -> None:
    save(small_checkpoint(), tmp_path / "small")
    (tmp_path / "a.txt").write_text(LINES)
    arguments = ["evaluate", str(tmp_path / "small"), str(tmp_path / "a.txt"), "--split", "50/40/10"]
    done = CliRunner().invoke(program, [*arguments, "--write-surprise"])
    assert done.exit_code == 0, done.output
    checkpoint = load(tmp_path / "small")
    expected = held_out_surprise(checkpoint, split(checkpoint.tokenizer.encode(LINES), "50/40/10").validation)
    assert expected is not None
    assert checkpoint.training[NAME] == expected.to_json()
    assert card_line(expected) in done.output


def test_the_whole_text_has_no_validation_part(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    done = CliRunner().invoke(program, ["evaluate", str(BUNDLED), str(tmp_path / "a.txt"), "--write-surprise"])
    assert done.exit_code != 0
    assert done.exception is not None
    assert "name the --split the model was trained with" in str(done.exception)
