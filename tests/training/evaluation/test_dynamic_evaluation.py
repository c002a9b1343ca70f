"""Dynamic evaluation is the published formula, learns only from what it has scored, and leaves the network alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.cells.spec import Cell
from model.config import NetworkConfig
from model.network import Network, detach
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids
from training.evaluation.dynamic_evaluation import (
    CHOSEN_ON,
    DECAYS,
    EPSILON,
    RATES,
    SEGMENTS,
    Adaptation,
    adapting_reader,
    choose,
    dynamic,
    root_mean_squares,
)
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import carried

TRAIN = "The quick brown fox jumps over the lazy dog, and the dog is not amused.\n" * 80
TOKENIZER = Tokenizer.learn([TRAIN])
TRAIN_IDS = TOKENIZER.encode(TRAIN)
OTHER = TOKENIZER.encode("zyx wvu tsr qpo " * 80)  # nothing like it


def network_of(cell: Cell = "lstm") -> Network:
    torch.manual_seed(5)
    network = Network(NetworkConfig(cell=cell, layers=2, hidden=16, embedding=8, vocabulary=TOKENIZER.size))
    return network.eval()


@pytest.fixture(scope="module")
def network() -> Network:
    return network_of()


@pytest.fixture(scope="module")
def usual(network: Network) -> list[Tensor]:
    return root_mean_squares(network, TRAIN_IDS, 1, 10)


def by_the_formula(network: Network, usual: list[Tensor], ids: Ids, how: Adaptation) -> float:
    """Summed nats of one sequence, the update written as the paper has it, one weight after the other."""
    copy = network_of(network.config.cell)
    copy.load_state_dict(network.state_dict())
    mean = sum(float(rms.mean()) for rms in usual) / len(usual)
    total, state = 0.0, None
    for at in range(0, len(ids) - 1, how.segment):
        piece = torch.from_numpy(ids[at : at + how.segment + 1].astype(np.int64))[None]
        logits, state = copy(piece[:, :-1], None if state is None else detach(state))
        loss = F.cross_entropy(logits[0], piece[0, 1:])
        total += loss.item() * (piece.shape[1] - 1)
        copy.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for weight, trained, rms in zip(copy.parameters(), network.parameters(), usual, strict=True):
                assert weight.grad is not None
                back = torch.minimum(how.decay * rms / mean, torch.ones(())) * (trained - weight)
                weight.add_(back - how.rate * weight.grad / (rms + EPSILON * mean))
    return total


@pytest.mark.parametrize(
    ("cell", "how"),
    [("lstm", Adaptation(1e-3, 0.0, 20)), ("gru", Adaptation(3e-3, 0.05, 50)), ("rnn", Adaptation(1e-3, 5.0, 7))],
)
def test_it_learns_by_the_formula(cell: Cell, how: Adaptation) -> None:
    network = network_of(cell)
    usual = root_mean_squares(network, TRAIN_IDS, 1, 10)
    piece = OTHER[:250]
    found = carried(adapting_reader(network, usual, how), piece, 1, how.segment).nats
    assert found == pytest.approx(by_the_formula(network, usual, piece, how), rel=1e-5)
    assert found != pytest.approx(carried(network_reader(network), piece, 1).nats, rel=1e-3)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_without_a_rate_it_is_the_carried_state(network: Network, usual: list[Tensor], batch_size: int) -> None:
    still = adapting_reader(network, usual, Adaptation(0.0, 0.01))
    expected = carried(network_reader(network), OTHER, batch_size)
    assert carried(still, OTHER, batch_size, 50).nats == pytest.approx(expected.nats, rel=1e-6)


def test_the_first_segment_is_scored_before_anything_is_learnt(network: Network, usual: list[Tensor]) -> None:
    fast = adapting_reader(network, usual, Adaptation(0.1, 0.0, 50))
    expected = carried(network_reader(network), OTHER[:51], 1)
    assert carried(fast, OTHER[:51], 1, 50).nats == pytest.approx(expected.nats, rel=1e-6)


def test_noise_cannot_be_learnt(network: Network, usual: list[Tensor]) -> None:
    """Whatever is learnt from ids drawn at random, they cost their logarithm at least: no answer is seen before."""
    letters = np.arange(ord("a"), ord("i"), dtype=np.uint16)
    noise = np.random.default_rng(3).choice(letters, 4001)
    score = carried(adapting_reader(network, usual, Adaptation(3e-3, 0.0, 10)), noise, 1, 10)
    assert np.log(8) < score.nats_per_character < np.log(8) + 0.5


def test_usual_gradients_are_root_mean_squares_over_segments(network: Network) -> None:
    ids = TRAIN_IDS[: SEGMENTS * 20 + 1]  # so short that all places are one
    state, squares = None, [torch.zeros_like(weight) for weight in network.parameters()]
    for at in range(0, len(ids) - 1, 20):
        piece = torch.from_numpy(ids[at : at + 21].astype(np.int64))[None]
        logits, state = network(piece[:, :-1], None if state is None else detach(state))
        network.zero_grad()
        F.cross_entropy(logits[0], piece[0, 1:]).backward()  # type: ignore[no-untyped-call]
        for square, weight in zip(squares, network.parameters(), strict=True):
            assert weight.grad is not None
            square += weight.grad**2 / SEGMENTS
    network.zero_grad()
    for found, square in zip(root_mean_squares(network, ids, 1, 20), squares, strict=True):
        assert torch.allclose(found, square.sqrt(), rtol=1e-4, atol=1e-9)


def test_a_text_unlike_any_other_is_learnt_and_the_network_is_left_alone() -> None:
    network = network_of().train()
    before = [weight.detach().clone() for weight in network.parameters()]
    random = torch.random.get_rng_state()
    parts = {"validation": OTHER[:700], "test": OTHER[700:]}
    how, scores = dynamic(network, TRAIN_IDS, parts, "validation")
    for name, part in parts.items():
        plain = carried(network_reader(network), part, 1)
        assert scores[name].nats_per_character < plain.nats_per_character - 0.3
        assert scores[name].characters == plain.characters
        assert scores[name].protocol == (
            f"dynamic evaluation, 50 ids a segment, rate {how.rate:g} and decay {how.decay:g} chosen on the first "
            "700 ids of validation; carried state, one sequence"
        )
    assert network.training
    assert torch.equal(random, torch.random.get_rng_state())
    for weight, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(weight, old)
        assert weight.grad is None


def test_every_part_begins_with_the_trained_weights_and_validation_alone_chooses(network: Network) -> None:
    first = {"validation": OTHER[:700], "test": OTHER[700:]}
    noise = np.random.default_rng(1).integers(TOKENIZER.size, size=500)  # of which there is nothing to learn
    second = {"test": noise, "validation": OTHER[:700]}
    how, scores = dynamic(network, TRAIN_IDS, first, "validation", batch_size=2)
    same, others = dynamic(network, TRAIN_IDS, second, "validation", batch_size=2)
    assert how == same
    assert scores["validation"] == others["validation"]
    usual = root_mean_squares(network, TRAIN_IDS, 2)
    assert choose(network, usual, noise, 2).rate < how.rate
    alone = carried(adapting_reader(network, usual, how), first["test"], 2, how.segment)
    assert scores["test"].nats == alone.nats
    assert scores["test"].protocol.endswith("2 sequences of 289 characters")


def test_the_choice_is_the_best_of_those_tried(network: Network, usual: list[Tensor]) -> None:
    def nats(how: Adaptation) -> float:
        return carried(adapting_reader(network, usual, how), OTHER, 1, how.segment).nats

    chosen = choose(network, usual, OTHER, 1)
    assert chosen.rate in RATES
    assert chosen.decay in DECAYS
    assert len(OTHER) < CHOSEN_ON
    assert nats(chosen) == min(nats(Adaptation(chosen.rate, decay)) for decay in DECAYS)
    assert nats(Adaptation(chosen.rate, DECAYS[1])) == min(nats(Adaptation(rate, DECAYS[1])) for rate in RATES)


def test_a_long_text_is_read_as_several_sequences(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluation.dynamic_evaluation.SHORTEST_SEQUENCE", 400)
    parts = {"validation": OTHER[:900], "test": OTHER[900:]}
    _, scores = dynamic(network, TRAIN_IDS, parts, "validation")
    assert [score.protocol.rpartition("; ")[2] for score in scores.values()] == [
        "carried state, 2 sequences of 449 characters",
        "carried state, 2 sequences of 189 characters",
    ]
