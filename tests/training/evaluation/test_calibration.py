"""The fitted temperature is where held-out text costs least, and folding it into the weights changes nothing else."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.config import NetworkConfig
from model.network import Network, from_tensors, to_tensors
from model.text.tokenizer import Tokenizer
from training.evaluation.calibration import MOST, fit_temperature, scale_output
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import carried

TEXT = "She sells sea shells by the sea shore; the shells she sells are surely sea shells. 詩\n" * 30
TOKENIZER = Tokenizer.learn([TEXT])
IDS = TOKENIZER.encode(TEXT)
HELD_OUT = TOKENIZER.encode("So if she sells shells on the sea shore, surely they are sea shore shells.\n" * 20)


@pytest.fixture(scope="module")
def network() -> Network:
    return trained(0)


def trained(attention: int) -> Network:
    """A network that has read the text a few times: it knows something, and is too sure of it elsewhere."""
    torch.manual_seed(3)
    config = NetworkConfig(layers=1, hidden=32, embedding=8, vocabulary=TOKENIZER.size, attention=attention)
    network = Network(config)
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    ids = torch.from_numpy(IDS[:1601].astype(np.int64))
    for _ in range(40):
        logits, _ = network(ids[:-1].reshape(16, 100))
        optimiser.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), ids[1:]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network.eval()


def nats(network: Network, temperature: float) -> float:
    scaled = from_tensors(network.config, scale_output(to_tensors(network), temperature))
    return carried(network_reader(scaled), HELD_OUT).nats


def test_no_temperature_beside_it_is_better(network: Network) -> None:
    fitted = fit_temperature(network, HELD_OUT)
    assert 1.05 < fitted < MOST
    best = nats(network, fitted)
    assert best < nats(network, 1.0)
    assert best <= min(nats(network, fitted * 1.01), nats(network, fitted / 1.01))


def test_with_attention_no_temperature_of_the_output_is_better() -> None:
    network = trained(16)
    before = to_tensors(network)
    fitted = fit_temperature(network, HELD_OUT)
    assert 1.05 < fitted < MOST
    assert all(np.array_equal(value, before[name]) for name, value in to_tensors(network).items())
    best = nats(network, fitted)
    assert best < nats(network, 1.0)
    assert best <= min(nats(network, fitted * 1.03), nats(network, fitted / 1.03))


@pytest.mark.parametrize("factor", [1.7, 0.6])
def test_logits_made_larger_are_fitted_a_temperature_as_much_higher(network: Network, factor: float) -> None:
    scaled = from_tensors(network.config, scale_output(to_tensors(network), 1 / factor))
    assert fit_temperature(scaled, HELD_OUT) == pytest.approx(factor * fit_temperature(network, HELD_OUT), rel=1e-3)


def test_frequencies_of_the_text_itself_need_no_temperature(network: Network) -> None:
    counts = np.bincount(IDS[1:], minlength=TOKENIZER.size)
    tensors = to_tensors(network)
    tensors["out.weight"] = np.zeros_like(tensors["out.weight"])
    tensors["out.bias"] = np.log(np.maximum(counts, 1e-6)).astype(np.float32)
    assert fit_temperature(from_tensors(network.config, tensors), IDS) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("sign", "bound"), [(1, 1 / MOST), (-1, MOST)])
def test_the_search_ends_where_there_is_no_end(network: Network, sign: int, bound: float) -> None:
    """A text every id of which is predicted right has no best temperature, nor has one that is always wrong."""
    tensors = to_tensors(network)
    tensors["out.weight"] = np.zeros_like(tensors["out.weight"])
    tensors["out.bias"] = np.zeros_like(tensors["out.bias"])
    tensors["out.bias"][ord("a")] = 3.0 * sign
    ids = np.full(300, ord("a"), np.uint16)
    assert fit_temperature(from_tensors(network.config, tensors), ids) == pytest.approx(bound, rel=0.01)


def test_folding_divides_the_logits_and_touches_nothing_else(network: Network) -> None:
    tensors = to_tensors(network)
    before = {name: value.copy() for name, value in tensors.items()}
    folded = scale_output(tensors, 1.25)
    assert all(np.array_equal(tensors[name], before[name]) for name in before)
    assert {name for name in folded if not np.array_equal(folded[name], before[name])} == {"out.weight", "out.bias"}
    assert all(value.dtype == np.float32 for value in folded.values())
    ids = torch.from_numpy(HELD_OUT[:50].astype(np.int64))[None]
    with torch.no_grad():
        logits, state = network(ids)
        scaled, same = from_tensors(network.config, folded)(ids)
    assert torch.allclose(scaled, logits / 1.25, atol=1e-5)
    assert all(torch.equal(one, other) for one, other in zip(state, same, strict=True))


def test_fitting_leaves_a_training_network_as_it_was(network: Network) -> None:
    copy = from_tensors(network.config, to_tensors(network)).train()
    random = torch.random.get_rng_state()
    fit_temperature(copy, HELD_OUT)
    assert copy.training
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), network.parameters(), strict=True))


@pytest.mark.parametrize("factor", [1.7, 0.6])
def test_a_few_readings_of_the_text_are_enough(network: Network, factor: float) -> None:
    scaled = from_tensors(network.config, scale_output(to_tensors(network), 1 / factor))
    readings = 0

    def count(*_: object) -> None:
        nonlocal readings
        readings += 1

    scaled.register_forward_hook(count)
    fit_temperature(scaled, HELD_OUT[:129])  # one window, so one forward pass a reading
    assert 2 <= readings <= 6
