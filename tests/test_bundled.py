"""The model that comes with Unroll: as good as its card says, as served, and no larger than promised."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model.checkpoint import BUNDLED, Checkpoint, load
from model.decoding.decoder import Decoder
from model.online_memory.weights import MemoryWeights
from training.data.corpus import Corpus
from training.data.sources import TextSource
from training.data.split import Split, split
from training.evaluation.online_memory import Memories, decoder_distributions, remembering
from training.evaluation.protocols import carried
from training.evaluation.readers import decoder_reader

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def bundled() -> Checkpoint:
    return load(BUNDLED)


@pytest.fixture
def shakespeare(corpus: Callable[[str], bytes], bundled: Checkpoint) -> Split:
    text = corpus("tinyshakespeare.txt").decode()
    return split(Corpus([TextSource("tinyshakespeare.txt", text)]).encode(bundled.tokenizer), "nanogpt")


def test_it_is_small_and_its_card_and_the_readme_tell_the_same_figures(bundled: Checkpoint) -> None:
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) <= 8_000_000
    training = bundled.training
    assert (training["split"], training["corpus"]["characters"]) == ("nanogpt", 1_115_394)
    assert training["command"].startswith("unroll train tinyshakespeare.txt --split nanogpt")
    for score in training["figures"].values():
        figure = f"{score['bits_per_character']:.4f}"
        assert figure in bundled.card
        assert figure in README


def test_as_served_it_predicts_the_last_tenth_of_shakespeare_as_well_as_promised(
    bundled: Checkpoint, shakespeare: Split
) -> None:
    """At most 1.34 nats per character on text it was not trained on, 1.415 on the half that chose nothing, in int8."""
    read = decoder_reader(Decoder(bundled, "int8"))
    test = carried(read, shakespeare.test)
    assert test.nats_per_character <= 1.415
    int8 = carried(read, shakespeare.validation) + test
    assert int8.nats_per_character <= 1.34
    expected = bundled.training["figures"]["validation and test"]["nats_per_character"]
    assert int8.nats_per_character == pytest.approx(expected, abs=0.0007)


def test_with_the_online_memory_the_test_part_costs_a_tenth_less(bundled: Checkpoint, shakespeare: Split) -> None:
    """At most 1.23 nats per character on text that chose nothing, where 1.4101 are needed without."""
    weights = MemoryWeights.required(bundled.training, items=False)
    read = remembering(decoder_distributions(Decoder(bundled, "int8")), Memories(weights))
    assert carried(read, shakespeare.test, 1).nats_per_character <= 1.23


def test_eight_bits_cost_at_most_a_thousandth_of_a_bit(bundled: Checkpoint, shakespeare: Split) -> None:
    piece = shakespeare.test[:30_000]
    int8, fp32 = (carried(decoder_reader(Decoder(bundled, arithmetic)), piece, 32) for arithmetic in ("int8", "fp32"))
    assert abs(int8.bits_per_character - fp32.bits_per_character) <= 0.001
