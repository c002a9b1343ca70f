"""The pace of training: what two networks took, and what others would."""

import pytest
import torch

from model.config import NetworkConfig, products
from training.planning.pace import Pace, measure_pace

SMALL = NetworkConfig(layers=1, hidden=128, embedding=32, vocabulary=321)
MIDDLE = NetworkConfig(layers=2, hidden=192, embedding=64, vocabulary=321, skip=True)
LARGE = NetworkConfig(layers=1, hidden=512, embedding=128, vocabulary=321)


def a_pace(short: float, long: float) -> Pace:
    return Pace.of_two((products(SMALL), short), (products(LARGE), long))


def test_a_network_takes_a_fixed_part_and_one_for_each_weight() -> None:
    pace = a_pace(2e-6 + 3e-11 * products(SMALL), 2e-6 + 3e-11 * products(LARGE))
    assert pace.fixed == pytest.approx(2e-6)
    for network in (SMALL, MIDDLE, LARGE):
        expected = 1 / (2e-6 + 3e-11 * products(network))
        assert pace.characters_per_second(network) == pytest.approx(expected)
        assert pace.characters_per_second(network, processes=3) == pytest.approx(3 * expected)


@pytest.mark.parametrize("short", [1e-9, 2e-5, 1.0])
def test_a_disturbed_measurement_leaves_what_the_large_network_took_and_larger_ones_dearer(short: float) -> None:
    pace = a_pace(short, 2e-5)
    assert pace.characters_per_second(LARGE) == pytest.approx(5e4)
    twice = NetworkConfig(layers=2, hidden=512, embedding=128, vocabulary=321, skip=True)
    assert pace.characters_per_second(twice) < 0.75 * pace.characters_per_second(LARGE)


def test_measuring_leaves_the_random_numbers_as_they_were() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        pace = measure_pace("lstm", 300, "fp32", torch.device("cpu"), rows=4)
        assert torch.equal(torch.rand(3), expected)
    assert 0 < pace.characters_per_second(LARGE) < pace.characters_per_second(SMALL)
