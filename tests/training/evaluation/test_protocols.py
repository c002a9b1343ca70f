"""Scores are cross-entropies: every character predicted once, whatever reads it and however it is cut."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from model.cells.spec import Cell
from model.checkpoint import Checkpoint, save
from model.config import NetworkConfig
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.network import Network, to_tensors
from model.text.tokenizer import Tokenizer
from training.data.split import split
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import alone_in_pieces, carried, carried_in_pieces, cold, cold_parts, together
from training.evaluation.readers import Reader, decoder_reader
from training.evaluation.score import Score
from training.evaluation.sharing import measured, pieces_each
from unroll import program

TEXT = "The quick brown fox — jumps over the lazy dog; 詩.\n" * 60
TOKENIZER = Tokenizer.learn([TEXT], min_count=100)  # — and 詩 are spelt in bytes
IDS = TOKENIZER.encode(TEXT)


def small(cell: Cell = "lstm") -> Network:
    torch.manual_seed(7)
    network = Network(NetworkConfig(cell=cell, layers=2, hidden=24, embedding=8, vocabulary=TOKENIZER.size))
    with torch.no_grad():
        network.out.weight.mul_(5)  # far from uniform, so that a wrong place would show
    return network.eval()


def checkpoint_of(network: Network) -> Checkpoint:
    return Checkpoint(config=network.config, tokenizer=TOKENIZER, tensors=to_tensors(network))


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("length", [2, 100, 129, 1000, len(IDS)])
def test_every_id_but_the_first_is_predicted_exactly_once(batch_size: int, length: int) -> None:
    seen: list[int] = []

    def read(inputs: np.ndarray, targets: np.ndarray, _: object) -> tuple[float, object]:
        assert inputs.shape == targets.shape
        seen.extend(targets.ravel().tolist())
        return float(targets.size), [np.zeros((len(inputs), 1))]

    places = np.arange(length, dtype=np.uint32)
    score = carried(read, places, batch_size)
    assert sorted(seen) == list(range(1, length))
    assert score.nats == length - 1


@pytest.mark.parametrize("length", [129, 1000, len(IDS)])
@pytest.mark.parametrize("pieces", [2, 3, 9])
def test_pieces_add_up_to_the_whole_and_none_reads_what_another_does(pieces: int, length: int) -> None:
    seen: list[int] = []

    def read(inputs: np.ndarray, targets: np.ndarray, _: object) -> tuple[float, object]:
        seen.extend(targets.ravel().tolist())
        return float(targets.sum()), [np.zeros((len(inputs), 1))]

    places = np.arange(length, dtype=np.uint32)
    text = carried_in_pieces(read, places, pieces, 5)
    assert len(text.pieces) == min(pieces, max(1, min(5, (length - 1) // 128)))
    score = measured({"text": text})["text"]
    assert sorted(seen) == list(range(1, length))
    assert score == carried(read, places, 5)
    network = network_reader(small())
    together = measured({"text": carried_in_pieces(network, IDS[:length], pieces, 5)})["text"]
    assert together.nats == pytest.approx(carried(network, IDS[:length], 5).nats, rel=1e-6)


@pytest.mark.parametrize("pieces", [2, 5])
def test_pieces_of_a_list_add_up_to_the_whole(pieces: int) -> None:
    network, separator = network_reader(small()), TOKENIZER.encode("o").tolist()
    whole, parts = (measured({"": alone_in_pieces(network, IDS, separator, many, 2000)})[""] for many in (1, pieces))
    assert parts.nats == pytest.approx(whole.nats, rel=1e-6)
    assert (parts.items, parts.characters, parts.protocol) == (whole.items, whole.characters, whole.protocol)


@pytest.mark.parametrize(("count", "texts", "each"), [(1, 2, 1), (2, 2, 1), (3, 2, 3), (4, 2, 2), (6, 2, 3), (4, 1, 4)])
def test_pieces_can_be_shared_evenly(count: int, texts: int, each: int) -> None:
    assert pieces_each(count, texts) == each


def test_one_sequence_equals_one_forward_pass_over_the_whole_text() -> None:
    network = small()
    ids = torch.from_numpy(IDS.astype(np.int64))[None]
    with torch.no_grad():
        logits, _ = network(ids[:, :-1])
    nats = F.cross_entropy(logits[0], ids[0, 1:], reduction="sum").item()
    score = carried(network_reader(network), IDS, batch_size=1)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.characters == len(TEXT) - 1
    assert score.bits_per_character == pytest.approx(nats / (len(TEXT) - 1) / math.log(2), rel=1e-5)
    assert score.protocol == "carried state, one sequence"


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_decoder_scores_what_the_network_scores(cell: Cell) -> None:
    network = small(cell)
    checkpoint = checkpoint_of(network)
    expected = carried(network_reader(network), IDS)
    exact = carried(decoder_reader(Decoder(checkpoint, "fp32")), IDS)
    rounded = carried(decoder_reader(Decoder(checkpoint, "int8")), IDS)
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


def recorder(seen: list[tuple[int, list[int], bool]], nats: float = 1.0) -> Reader:
    """A reader of a text whose ids are their own places; notes first target, all targets and whether it was fresh."""

    def read(inputs: np.ndarray, targets: np.ndarray, state: object) -> tuple[float, object]:
        assert np.array_equal(inputs + 1, targets)
        seen.extend((int(row[0]), row.tolist(), state is None) for row in targets)
        return nats * targets.size, [np.zeros((len(inputs), 1))]

    return read


def test_cold_windows_begin_anywhere_without_a_past_and_every_target_counts() -> None:
    seen: list[tuple[int, list[int], bool]] = []
    score = cold(recorder(seen, 0.5), np.arange(1100, 1700), windows=100)
    first, second = [row for row in seen if row[2]], [row for row in seen if not row[2]]
    assert len(first) == len(second) == 100
    windows = sorted(targets for _, targets, _ in first)
    assert all(targets == list(range(targets[0], targets[0] + 128)) for targets in windows)
    assert sorted(place + 128 for place, _, _ in first) == sorted(place for place, _, _ in second)
    assert min(windows)[0] >= 1101
    assert max(place for place, _, _ in second) + 127 <= 1699
    assert len({place for place, _, _ in first}) > 80  # drawn with replacement from 344 places
    assert (score.characters, score.nats) == (100 * 256, 100 * 128.0)
    assert score.standard_error == pytest.approx(0, abs=1e-9)  # all windows were alike
    assert score.protocol == "cold windows of 256, 100 random, zero state"


def test_a_text_with_fewer_places_than_windows_has_each_read_once() -> None:
    seen: list[tuple[int, list[int], bool]] = []
    score = cold(recorder(seen), np.arange(300))
    assert sorted(place for place, _, fresh in seen if fresh) == list(range(1, 45))
    assert score.protocol == "cold windows of 256, all 44, zero state"
    assert score.standard_error is None


@pytest.mark.parametrize("length", [2, 100, 256])
def test_a_text_shorter_than_a_window_is_one_window(length: int) -> None:
    network = small()
    score = cold(network_reader(network), IDS[:length])
    whole = carried(network_reader(network), IDS[:length], batch_size=1)
    assert score.nats == pytest.approx(whole.nats)
    assert score.characters == whole.characters
    assert score.protocol == f"cold windows of {length - 1}, all 1, zero state"


def test_cold_windows_of_a_network_that_ignores_its_past_are_worth_the_carried_state() -> None:
    network = small("rnn")
    ids = TOKENIZER.encode("the lazy dog jum" * 80)  # windows of 256 hold each of its 16 places equally often
    past = cold(network_reader(network), ids, 500).nats_per_character
    for layer in network.layers:
        torch.nn.init.zeros_(layer.get_parameter("weight_hh_l0"))
    forgetful = cold(network_reader(network), ids, 500)
    expected = carried(network_reader(network), ids[: 16 * 79 + 1], batch_size=1)
    assert forgetful.nats_per_character == pytest.approx(expected.nats_per_character, rel=1e-5)
    assert past != pytest.approx(expected.nats_per_character, rel=1e-2)


def test_the_decoder_scores_the_windows_the_network_scores() -> None:
    network = small()
    ids = IDS[:600]
    expected = cold(network_reader(network), ids, 16)
    found = cold(decoder_reader(Decoder(checkpoint_of(network), "fp32")), ids, 16)
    assert found.nats == pytest.approx(expected.nats, rel=1e-5)
    assert found.characters == expected.characters


def test_cold_windows_repeat_themselves_with_their_seed() -> None:
    read = network_reader(small())
    one, again, other = (cold(read, IDS, 32, length=64, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.nats != other.nats


def by_id(inputs: np.ndarray, targets: np.ndarray, state: object) -> tuple[float, object]:
    """A reader to which ids cost more the higher they are, and more in a fresh state."""
    nats = float((targets % 97 / 10).sum()) + (len(targets) if state is None else 0)
    return nats, [np.zeros((len(inputs), 1))]


def test_the_standard_error_is_how_far_seeds_lie_apart() -> None:
    every = cold(by_id, IDS, len(IDS))
    assert every.standard_error is None
    scores = [cold(by_id, IDS, 320, seed=seed) for seed in range(60)]
    errors = [(score.nats_per_character - every.nats_per_character) for score in scores]
    spread = math.sqrt(np.mean(np.square(errors)))
    typical = float(np.mean([score.standard_error or 0 for score in scores]))
    assert spread == pytest.approx(typical, rel=0.3)
    assert abs(np.mean(errors)) < 4 * spread / math.sqrt(60)


def test_bits_are_per_character_however_many_ids_spell_it() -> None:
    def read(inputs: np.ndarray, targets: np.ndarray, _: object) -> tuple[float, object]:
        return math.log(2) * targets.size, [np.zeros((len(inputs), 1))]

    score = cold(read, IDS, len(IDS))
    starts = range(len(IDS) - 256)
    spelt = np.concatenate([IDS[at + 1 : at + 257] for at in starts])
    assert score.characters == np.count_nonzero((spelt < 0x80) | (spelt >= 0xC0)) < len(spelt)
    assert score.bits_per_character == pytest.approx(len(spelt) / score.characters)


def test_parts_together_count_by_their_length() -> None:
    one, other = Score(100.0, 100, "a", 0.03), Score(200.0, 100, "a", 0.04)
    both = together([one, other], [300, 100])
    assert both.nats_per_character == pytest.approx(0.75 * 1 + 0.25 * 2)
    assert both.standard_error == pytest.approx(math.hypot(0.75 * 0.03, 0.25 * 0.04))
    assert (both.protocol, both.characters) == ("a", 200)
    assert (one + other).standard_error == pytest.approx(0.025)
    assert (one + Score(1.0, 100, "b")).standard_error == pytest.approx(0.015)
    assert (Score(1.0, 100, "b") + Score(1.0, 100, "b")).standard_error is None


def test_as_many_cold_windows_are_drawn_as_there_is_time_for() -> None:
    parts = {"validation": IDS[:1500], "test": IDS[1500:2500]}
    hurried = cold_parts(by_id, parts, seconds=0)
    assert list(hurried) == ["validation", "test", "validation and test"]
    assert hurried["test"] == cold(by_id, parts["test"], 64)
    assert hurried["validation and test"] == together([hurried["validation"], hurried["test"]], [1500, 1000])
    assert "64 random" in hurried["test"].protocol
    ample = cold_parts(by_id, parts, seconds=60, windows=500)
    assert ample == cold_parts(by_id, parts, windows=500)
    assert "500 random" in ample["test"].protocol
    assert cold_parts(by_id, {"whole": IDS}, windows=64).keys() == {"whole"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(checkpoint_of(small()), tmp_path / "small")
    (tmp_path / "fox.txt").write_text(TEXT)
    return tmp_path


def asked(folder: Path, *options: str) -> list[str]:
    return ["evaluate", str(folder / "small"), str(folder / "fox.txt"), *options]


def test_the_verb_scores_by_every_protocol_asked_for(folder: Path) -> None:
    arguments = asked(folder, "--split", "50/30/20", "--protocol", "cold", "--protocol", "carried", "--windows", "40")
    done = CliRunner().invoke(program, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    pieces = split(IDS, "50/30/20")
    read = network_reader(small())
    carrying = answer["protocols"]["carried"]
    assert carrying == answer["parts"]
    assert carrying["test"] == carried(read, pieces.test).to_json()
    assert answer["protocols"]["cold"] == {
        name: score.to_json()
        for name, score in cold_parts(read, {"validation": pieces.validation, "test": pieces.test}, windows=40).items()
    }
    assert list(carrying) == ["validation", "test", "validation and test"]
    assert answer["protocols"]["cold"]["test"]["standard_error_nats"] > 0

    table = CliRunner().invoke(program, arguments, env={"COLUMNS": "200"}).output
    for found in answer["protocols"].values():
        for figures in found.values():
            assert f"{figures['nats_per_character']:.4f}" in table
    assert "(cold windows of 256, 40 random, zero state; PyTorch)" in " ".join(table.split())
    assert "± 0." in table


def test_the_verb_scores_dynamically_and_at_a_fitted_temperature(folder: Path) -> None:
    arguments = asked(folder, "--split", "50/30/20", "--protocol", "all", "--fit-temperature", "--json")
    done = CliRunner().invoke(program, [*arguments, "--windows", "8"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert list(answer["protocols"]) == ["carried", "cold", "dynamic"]
    before, learnt = (answer["protocols"][name]["test"]["nats_per_character"] for name in ("carried", "dynamic"))
    assert learnt < before - 0.1  # the text repeats itself, and the network never saw it
    assert answer["temperature"]["fitted"] > 1.2  # random weights, far too sure
    tempered = answer["temperature"]["parts"]
    assert tempered["validation"]["nats_per_character"] < before
    assert "temperature" in tempered["test"]["protocol"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--protocol", "dynamic"], "Dynamic evaluation needs the train part, .* name the --split"),
        (["--protocol", "all"], "Dynamic evaluation needs the train part, .* name the --split"),
        (["--fit-temperature"], "--fit-temperature needs the validation part; name the --split"),
        (["--split", "50/30/20", "--protocol", "all", "--reader", "int8"], "which the CPU decoder cannot"),
    ],
)
def test_what_a_protocol_needs_is_named(folder: Path, options: list[str], sentence: str) -> None:
    done = CliRunner().invoke(program, asked(folder, *options))
    assert done.exit_code != 0
    with pytest.raises(ParameterError, match=sentence):
        raise done.exception or AssertionError(done.output)
