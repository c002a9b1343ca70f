"""The loss with attention: that of the whole mixture, its gradients, rows alone and together, windows cut or whole."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import training.pointer_loss
from model.config import NetworkConfig
from model.network import Network, State, detach
from training.loop.masked_forward import read_window, window_loss
from training.loop.masks import Mask, Masks

MASKS = Masks(between=[Mask()])
WINDOW = 32
COMPILED = pytest.mark.skipif(
    training.pointer_loss._functions() is None, reason="no kernel, or a processor without AVX512_BF16"
)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


def a_network() -> Network:
    """One that points: its attention's weights are large."""
    config = NetworkConfig(layers=2, hidden=48, embedding=16, vocabulary=270, skip=True, attention=WINDOW)
    network = Network(config)
    assert network.attention is not None
    with torch.no_grad():
        network.attention.recency.normal_()
        network.attention.project.weight.mul_(3)
    return network


def windows(rows: int, *lengths: int) -> list[Tensor]:
    """Stretches of one text in few ids, one id longer than what is read."""
    ids = torch.randint(262, 270, (rows, sum(lengths) + 1))
    starts = [sum(lengths[:at]) for at in range(len(lengths))]
    return [ids[:, start : start + length + 1] for start, length in zip(starts, lengths, strict=True)]


def loss_and_gradients(network: Network, ids: Tensor, targets: Tensor, state: State | None) -> list[Tensor]:
    loss, _ = window_loss(network, ids, targets, state, MASKS)
    return [loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))]


def far(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((one - other).norm() / other.norm()) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("before", [None, 7, 90])
def test_the_loss_and_its_gradients_are_those_of_the_whole_distribution(before: int | None) -> None:
    network = a_network()
    read, window = windows(3, before or 1, 41)
    state = None if before is None else detach(network(read[:, :-1])[1])
    ids, targets = window[:, :-1], window[:, 1:].clone()
    targets[1, 20:] = -100
    found = loss_and_gradients(network, ids, targets, state)
    logits, _ = read_window(network, ids, state, MASKS)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.t().flatten())
    expected = [loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))]
    assert far(found, expected) < 1e-5


def in_bf16(work: Any) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        return work()


@COMPILED
@pytest.mark.parametrize("length", [1, 20, 64])
def test_the_kernel_does_as_pytorch(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the rounding of products to eight bits; the state after is the same."""
    network = a_network()
    read, window = windows(5, 50, length)
    state = detach(network(read[:, :-1])[1])
    ids, targets = window[:, :-1], window[:, 1:].clone()
    targets[2, length // 2 :] = -100
    found = in_bf16(lambda: loss_and_gradients(network, ids, targets, state))
    _, after = in_bf16(lambda: window_loss(network, ids, targets, state, MASKS))
    exact = loss_and_gradients(network, ids, targets, state)
    monkeypatch.setattr(training.pointer_loss, "_functions", lambda: None)
    expected = in_bf16(lambda: loss_and_gradients(network, ids, targets, state))
    _, wanted = in_bf16(lambda: window_loss(network, ids, targets, state, MASKS))
    assert float((found[0] - exact[0]).abs()) < 0.01
    assert far(found[1:], exact[1:]) < 2 * far(expected[1:], exact[1:]) + 0.01
    assert torch.equal(after[-1], wanted[-1])
    assert (after[-2].int() - wanted[-2].int()).abs().max() <= 1
    assert (after[-2] != wanted[-2]).float().mean() < 0.01


@COMPILED
def test_a_row_has_the_same_bits_alone_and_with_others() -> None:
    network = a_network()
    first, second = windows(6, 40, 30)
    _, state = in_bf16(lambda: window_loss(network, first[:, :-1], first[:, 1:], None, MASKS))
    state = detach(state)
    _, together = in_bf16(lambda: window_loss(network, second[:, :-1], second[:, 1:], state, MASKS))
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        own = [one[part] for one in state]
        _, alone = in_bf16(lambda p=part, o=own: window_loss(network, second[p, :-1], second[p, 1:], o, MASKS))
        assert all(torch.equal(one, other[part]) for one, other in zip(alone[4:], together[4:], strict=True))


@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=COMPILED)])
def test_a_text_may_be_cut_anywhere(bf16: bool) -> None:
    network = a_network()
    [whole] = windows(2, 100)

    def nats(*lengths: int) -> float:
        state, at, total = None, 0, 0.0
        for length in lengths:
            piece = whole[:, at : at + length + 1]
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16, cache_enabled=False):
                loss, state = window_loss(network, piece[:, :-1], piece[:, 1:], state, MASKS)
            total, at = total + float(loss) * length, at + length
        return total

    assert nats(1, 40, 59) == pytest.approx(nats(100), rel=1e-3 if bf16 else 1e-6)
