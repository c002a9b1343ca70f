"""Two checkpoints on one text: who is better, by how much, how sure; the figures are those of reading each alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import BUNDLED, Checkpoint, load, save
from model.decoding.decoder import Decoder
from model.errors import CorpusError, ParameterError
from tests.model.small import small_checkpoint
from tests.training.comparison.calling import compare
from training.comparison.paired import character_nats, compare_checkpoints
from training.evaluation.protocols import carried
from training.evaluation.readers import decoder_reader

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not care at all about it.\n" * 30


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder whose checkpoint has random weights."""
    folder = tmp_path_factory.mktemp("run")
    save(small_checkpoint(), folder / "best")
    return folder


def test_a_trained_model_is_better_than_random_weights_and_the_other_way_round(small: Path) -> None:
    found = compare_checkpoints(BUNDLED, small, TEXT)
    low, high = found.interval
    assert found.better == "a"
    assert 0 < low < found.difference < high
    assert found.difference == pytest.approx(found.bits_b - found.bits_a)
    assert found.characters == len(TEXT) - 1
    back = compare_checkpoints(small, BUNDLED, TEXT)
    assert back.better == "b"
    assert back.difference == pytest.approx(-found.difference)
    assert back.interval == pytest.approx((-high, -low))


def test_a_model_is_no_better_than_itself() -> None:
    found = compare_checkpoints(BUNDLED, BUNDLED, TEXT)
    assert (found.difference, found.interval, found.better) == (0, (0, 0), None)


@pytest.mark.parametrize("which", ["bundled", "small"])
def test_the_bits_are_those_of_evaluate(which: str, small: Path) -> None:
    """The small one knows letters alone: of other characters it reads several bytes each."""
    checkpoint: Checkpoint = load(BUNDLED if which == "bundled" else small / "best")
    nats = character_nats(checkpoint, f"{TEXT}Ünknown – 5")
    alone = carried(decoder_reader(Decoder(checkpoint)), checkpoint.tokenizer.encode(f"{TEXT}Ünknown – 5"), 1)
    assert len(nats) == len(TEXT) + 10 == alone.characters
    assert float(np.sum(nats)) == pytest.approx(alone.nats, rel=1e-6)


def test_the_verb_says_it_in_a_sentence_and_as_json(small: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    said = compare(BUNDLED, small, tmp_path / "text.txt")
    found = json.loads(compare(BUNDLED, small, tmp_path / "text.txt", "--json"))
    assert "A predicts this text better: B − A is +" in said
    assert f"{found['difference']:+.4f} bits per character" in said
    assert found["better"] == "a"
    assert compare(BUNDLED, small, tmp_path / "text.txt") == said  # the drawing has a seed


def test_what_cannot_be_compared_is_refused(small: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "short.txt").write_text("short")
    with pytest.raises(CorpusError, match="5 characters, too few to compare on"):
        compare(BUNDLED, small, tmp_path / "short.txt")
    with pytest.raises(ParameterError, match="name it after them"):
        compare(BUNDLED, small)
    with pytest.raises(ParameterError, match="leave out --seeds"):
        compare(BUNDLED, small, tmp_path / "text.txt", "--seeds", "2")


def test_a_checkpoint_beside_a_name_that_is_none_is_not_taken_for_a_corpus(small: Path, tmp_path: Path) -> None:
    text, lost = tmp_path / "text.txt", tmp_path / "lost"
    text.write_text(TEXT)
    for names, none in (((small, lost, text), lost), ((lost, small, text), lost), ((small, text), text)):
        with pytest.raises(ParameterError, match=f"is a checkpoint, and {none} is none; name two checkpoints and then"):
            compare(*names)
    with pytest.raises(ParameterError, match="is a checkpoint; name two checkpoints and then the text"):
        compare(small)
