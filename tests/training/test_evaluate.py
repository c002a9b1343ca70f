"""Scores are cross-entropies: every character predicted once, whatever reads it and however it is cut."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.checkpoint import Checkpoint
from model.config import Cell, NetworkConfig
from model.decoder import Decoder
from model.network import Network, to_tensors
from model.tokenizer import Tokenizer
from training.evaluate import carried, decoder_reader, network_reader

TEXT = "The quick brown fox — jumps over the lazy dog; 詩.\n" * 60
TOKENIZER = Tokenizer.learn([TEXT], min_count=100)  # — and 詩 are spelt in bytes
IDS = TOKENIZER.encode(TEXT)


def small(cell: Cell = "lstm") -> Network:
    torch.manual_seed(7)
    network = Network(NetworkConfig(cell=cell, layers=2, hidden=24, embedding=8, vocabulary=TOKENIZER.size))
    with torch.no_grad():
        network.out.weight.mul_(5)  # far from uniform, so that a wrong place would show
    return network.eval()


@pytest.mark.parametrize("lanes", [1, 3, 16])
@pytest.mark.parametrize("length", [2, 100, 129, 1000, len(IDS)])
def test_every_id_but_the_first_is_predicted_exactly_once(lanes: int, length: int) -> None:
    seen: list[int] = []

    def read(inputs: np.ndarray, targets: np.ndarray, _: object) -> tuple[float, object]:
        assert inputs.shape == targets.shape
        seen.extend(targets.ravel().tolist())
        return float(targets.size), [np.zeros((len(inputs), 1))]

    places = np.arange(length, dtype=np.uint32)
    score = carried(read, places, lanes)
    assert sorted(seen) == list(range(1, length))
    assert score.nats == length - 1


def test_one_lane_equals_one_forward_pass_over_the_whole_text() -> None:
    network = small()
    ids = torch.from_numpy(IDS.astype(np.int64))[None]
    with torch.no_grad():
        logits, _ = network(ids[:, :-1])
    nats = F.cross_entropy(logits[0], ids[0, 1:], reduction="sum").item()
    score = carried(network_reader(network), IDS, lanes=1)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.characters == len(TEXT) - 1
    assert score.bits_per_character == pytest.approx(nats / (len(TEXT) - 1) / math.log(2), rel=1e-5)
    assert score.protocol == "carried state, one lane"


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_decoder_scores_what_the_network_scores(cell: Cell) -> None:
    network = small(cell)
    checkpoint = Checkpoint(config=network.config, tokenizer=TOKENIZER, tensors=to_tensors(network))
    expected = carried(network_reader(network), IDS)
    exact = carried(decoder_reader(Decoder(checkpoint, "fp32", every_id=True)), IDS)
    rounded = carried(decoder_reader(Decoder(checkpoint, "int8", every_id=True)), IDS)
    assert exact.nats == pytest.approx(expected.nats, rel=1e-5)
    # Eight bits cost something on random weights, far less than a character's worth.
    assert rounded.bits_per_character == pytest.approx(expected.bits_per_character, abs=0.02)


def test_a_network_that_knows_nothing_scores_the_logarithm_of_its_vocabulary() -> None:
    network = small()
    with torch.no_grad():
        network.out.weight.zero_()
        network.out.bias.zero_()
    ids = TOKENIZER.encode("the lazy dog " * 40)
    score = carried(network_reader(network), ids)
    assert score.bits_per_character == pytest.approx(math.log2(TOKENIZER.size), rel=1e-6)


def test_evaluating_leaves_a_training_network_in_training() -> None:
    network = small().train()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    before = torch.random.get_rng_state()
    carried(network_reader(network), IDS)
    assert network.training
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
