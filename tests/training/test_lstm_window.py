"""The LSTM's own kernel: the equations and their gradients, rows alone and together, windows cut or whole."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import training.lstm_window
from model.config import NetworkConfig
from model.network import Network
from training.data.batches import Batches
from training.loop.learner import Learner
from training.lstm_window import lstm_window, read_to_learn
from training.planning.config import TrainingConfig

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(
    training.lstm_window._functions() is None, reason="no kernel, or a processor without AVX512_BF16"
)
CLOSE = 0.01  # relative error of products of numbers of eight bits
PATHS = {"vectors": False} | ({"tiles": True} if training.lstm_window.has_tiles() else {})


@pytest.fixture(autouse=True, params=list(PATHS.values()), ids=list(PATHS))
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each law holds however the products are done."""
    monkeypatch.setattr(training.lstm_window, "has_tiles", lambda: request.param)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


def a_layer(length: int, rows: int, width: int, hidden: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """x, weights and a state."""
    shapes = ((4 * hidden, width, width), (4 * hidden, hidden, hidden))
    weights = [torch.randn(height, depth) / scale**0.5 for height, depth, scale in shapes]
    weights += [torch.randn(4 * hidden) / 10 for _ in range(2)]
    x, h, c = torch.randn(length, rows, width), torch.randn(rows, hidden) / 2, torch.randn(rows, hidden)
    return x.requires_grad_(), [weight.requires_grad_() for weight in weights], [h, c]


def by_the_equations(x: Tensor, weights: list[Tensor], state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    (w_ih, w_hh, b_ih, b_hh), (h, c) = weights, state
    hiddens = []
    for one in x:
        i, f, g, o = (one @ w_ih.t() + b_ih + h @ w_hh.t() + b_hh).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hiddens.append(h)
    return torch.stack(hiddens), [h, c]


def far(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("length", "rows", "width", "hidden"),
    [
        *[(1, 1, 2, 16), (5, 8, 6, 16), (20, 7, 24, 48), (17, 11, 32, 64), (9, 3, 600, 320), (8, 16, 64, 128)],
        *[(3, 17, 34, 80), (2, 35, 74, 112)],  # blocks of rows, of columns and of factors that are not full
    ],
)
def test_a_window_and_its_gradients_are_those_of_the_equations(length: int, rows: int, width: int, hidden: int) -> None:
    x, weights, state = a_layer(length, rows, width, hidden)
    factors = torch.randn(length, rows, hidden)
    found = []
    for read in (lstm_window, by_the_equations):
        for one in (x, *weights):
            one.grad = None
        hiddens, (h, c) = read(x, weights, state)
        ((hiddens.float() * factors).sum() + (c * c).sum() + h.sum()).backward()  # type: ignore[no-untyped-call]
        gradients = [one.grad for one in (x, *weights)]
        found.append([one.detach() for one in (hiddens, h, c, *gradients) if one is not None])
    assert len(found[0]) == len(found[1]) == 8
    assert max(map(far, *found)) < CLOSE


def test_a_row_is_read_to_the_same_bits_alone_and_with_others() -> None:
    x, weights, state = a_layer(12, 13, 24, 48)
    whole, (h, c) = lstm_window(x, weights, state)
    for part in (slice(0, 1), slice(1, 6), slice(6, 13)):
        alone, (own_h, own_c) = lstm_window(x[:, part], weights, [one[part] for one in state])
        assert torch.equal(alone, whole[:, part])
        assert torch.equal(own_h, h[part])
        assert torch.equal(own_c, c[part])


@pytest.mark.parametrize(
    ("rows", "width", "hidden"), [(1, 2, 16), (15, 46, 48), (16, 48, 64), (33, 64, 80), (50, 600, 112)]
)
def test_each_state_is_that_of_the_equations_where_sums_are_exact(rows: int, width: int, hidden: int) -> None:
    x, weights, state = a_layer(1, rows, width, hidden)
    x, *weights = ((8 * one.detach()).round().clamp(-16, 16) / 16 for one in (x, *weights))
    state[0] = state[0].sign()
    hiddens, (_, c) = lstm_window(x, weights, state)
    expected, (_, own_c) = by_the_equations(x, weights, state)
    torch.testing.assert_close(hiddens.float(), expected, rtol=2**-8, atol=1e-6)  # the hidden states alone are rounded
    torch.testing.assert_close(c, own_c, rtol=1e-5, atol=1e-6)


def test_a_window_in_two_is_read_to_the_same_bits_as_in_one() -> None:
    x, weights, state = a_layer(29, 3, 24, 48)
    state[0] = state[0].bfloat16().float()  # as a window leaves it
    whole, after = lstm_window(x, weights, state)
    first, between = lstm_window(x[:10], weights, state)
    second, end = lstm_window(x[10:], weights, between)
    assert torch.equal(torch.cat([first, second]), whole)
    assert all(map(torch.equal, after, end))


def test_what_is_no_number_stays_none() -> None:
    x, weights, state = a_layer(3, 2, 4, 16)
    x = x.detach()
    x[1, 1, 2] = torch.nan
    hiddens, _ = lstm_window(x, weights, state)
    assert not hiddens[0].isnan().any()
    assert not hiddens[:, 0].isnan().any()
    assert hiddens[1:, 1].isnan().all()


def test_large_sums_saturate() -> None:
    x, weights, state = a_layer(2, 2, 4, 16)
    hiddens, _ = lstm_window(1e30 * x.detach(), weights, state)
    assert hiddens.isfinite().all()
    assert float(hiddens.detach().abs().max()) <= 1


@pytest.mark.parametrize(("cell", "hidden", "bf16"), [("lstm", 40, True), ("gru", 48, True), ("lstm", 48, False)])
def test_other_layers_are_read_by_pytorch(cell: str, hidden: int, bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(training.lstm_window, "lstm_window", never)
    network = Network(NetworkConfig(cell=cell, layers=1, hidden=hidden, embedding=24, vocabulary=300))  # type: ignore[arg-type]
    state = network.initial_state(2)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        x = network.embedding(torch.zeros(5, 2, dtype=torch.int64))
        found, _ = read_to_learn(network.config, x, network.layer_weights(0), state)
    assert found.shape == (5, 2, hidden)


def learnt(threads: int, rows: int = 7) -> tuple[Learner, list[float]]:
    """A learner after six steps in bfloat16, and their losses."""
    network = NetworkConfig(layers=2, hidden=48, embedding=24, vocabulary=300, skip=True)
    torch.manual_seed(1)
    config = TrainingConfig(network=network, batch_size=rows, epochs=1, threads=threads, precision="bf16")
    learner = Learner(config, CPU)
    batches = Batches(np.random.default_rng(4).integers(300, size=4000), rows, 20, 1)
    return learner, [float(learner.learn(batches.next(), 1e-3)[0]) for _ in range(6)]


def test_learning_gives_the_same_bytes_again_and_nearly_the_same_with_other_threads_and_by_pytorch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, losses = learnt(2)
    again, others = learnt(2)
    assert others == losses
    assert all(map(torch.equal, learner.network.parameters(), again.network.parameters()))
    assert losses[-1] < losses[0]
    assert learnt(1)[1] == pytest.approx(losses, rel=1e-3)
    assert learnt(3)[1] == pytest.approx(losses, rel=1e-3)
    monkeypatch.setattr(training.lstm_window, "_functions", lambda: None)
    assert learnt(2)[1] == pytest.approx(losses, rel=1e-3)


def test_rows_that_end_are_read_to_the_same_bits_and_gradients_as_alone() -> None:
    lengths = [9, 9, 5, 4, 1]
    x, weights, state = a_layer(9, len(lengths), 24, 48)
    counts = [sum(length > at for length in lengths) for at in range(9)]
    there = torch.tensor([[length > at for length in lengths] for at in range(9)])
    packed, (h, c) = lstm_window(x[there], weights, state, counts)
    factors = torch.randn(len(packed), 48)
    (packed.float() * factors).sum().backward()  # type: ignore[no-untyped-call]
    together = [one.grad for one in (x, *weights)]
    alone = [torch.zeros_like(one) for one in (x, *weights)]
    for row, length in enumerate(lengths):
        for one in (x, *weights):
            one.grad = None
        own, (own_h, own_c) = lstm_window(x[:length, row : row + 1], weights, [one[row : row + 1] for one in state])
        places = there.nonzero()[:, 1] == row
        assert torch.equal(own[:, 0], packed[places])
        assert torch.equal(own_h[0], h[row])
        assert torch.equal(own_c[0], c[row])
        (own[:, 0].float() * factors[places]).sum().backward()  # type: ignore[no-untyped-call]
        for total, one in zip(alone, (x, *weights), strict=True):
            assert one.grad is not None
            total += one.grad
    for gradient, expected in zip(together, alone, strict=True):
        assert gradient is not None
        assert far(gradient, expected) < CLOSE


def test_what_lies_beyond_rows_that_end_is_not_read() -> None:
    x, weights, state = a_layer(1, 12, 24, 48)
    counts, found = [3, 3, 2, 1], []
    for beyond in (0, 3):  # numbers that would be seen in every gradient
        flat = torch.cat([x[0, :9], torch.full((beyond, 24), 1e9)]).detach().requires_grad_()
        for weight in weights:
            weight.grad = None
        hiddens, (h, c) = lstm_window(flat, weights, [one[:3] for one in state], counts)
        assert not hiddens[9:].any()
        hiddens[:9].float().square().sum().backward()  # type: ignore[no-untyped-call]
        assert flat.grad is not None
        assert not flat.grad[9:].any()
        found.append(
            [hiddens[:9].detach(), h.detach(), c.detach(), flat.grad[:9], *(weight.grad for weight in weights)]
        )
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert far(one, other) < 1e-6
