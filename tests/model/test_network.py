"""The PyTorch network: one contract for sequences and steps, three cells, and how their weights begin."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.cells.spec import CELLS as SPECS
from model.cells.spec import Cell
from model.checkpoint import Checkpoint
from model.config import NetworkConfig
from model.errors import ParameterError
from model.network import Network, detach, from_tensors, to_tensors
from tests.model.small import CELLS, OPTIONS, small_checkpoint

ROWS, TIME = 3, 20

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def network(cell: Cell, **options: Any) -> Network:
    torch.manual_seed(1)
    return Network(NetworkConfig(cell=cell, layers=2, hidden=16, embedding=8, vocabulary=260, **options))


def random_ids() -> torch.Tensor:
    return torch.randint(260, (ROWS, TIME), generator=torch.Generator().manual_seed(2))


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def after_by_hand(cell: Cell, x: Any, h: Any, c: Any, weights: list[NDArray[np.float64]]) -> tuple[Any, Any]:
    """The h and c (H,) after an input x (E,), by the equations of the module's text."""
    w_ih, w_hh, b_ih, b_hh = weights
    own, past = np.split(w_ih @ x + b_ih, SPECS[cell].gates), np.split(w_hh @ h + b_hh, SPECS[cell].gates)
    if cell == "rnn":
        return np.tanh(own[0] + past[0]), c
    if cell == "gru":
        r, z = sigmoid(own[0] + past[0]), sigmoid(own[1] + past[1])
        return (1 - z) * np.tanh(own[2] + r * past[2]) + z * h, c
    i, f, o = (sigmoid(own[gate] + past[gate]) for gate in (0, 1, 3))
    after = f * c + i * np.tanh(own[2] + past[2])
    return o * np.tanh(after), after


def logits_by_hand(checkpoint: Checkpoint, ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The logits (T, V) of ids (T,), number by number in float64; and what the output reads (T, W)."""
    config = checkpoint.config
    tensors = {name: value.astype(np.float64) for name, value in checkpoint.tensors.items()}
    hidden, cells = np.zeros((2, config.layers, config.hidden))
    logits, heard = [], []
    for at in ids:
        x = tensors["embedding.weight"][at]
        for layer in range(config.layers):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            weights = [tensors[f"layers.{layer}.{name}_l0"] for name in names]
            h, c = after_by_hand(config.cell, x, hidden[layer], cells[layer], weights)
            x = hidden[layer] = h
            cells[layer] = c
        read = hidden.ravel() if config.skip else hidden[-1]
        logits.append(tensors["out.weight"] @ read + tensors["out.bias"])
        heard.append(read.copy())
    return np.array(logits), np.array(heard)


def mixture_by_hand(
    checkpoint: Checkpoint, ids: NDArray[np.int64], logits: NDArray[np.float64], heard: NDArray[np.float64]
) -> NDArray[np.float64]:
    """ln p (T, V) with attention, by the equations of model/cells/attention.py."""
    tensors, window = checkpoint.tensors, checkpoint.config.attention
    projected = heard @ tensors["attention.project.weight"].T.astype(np.float64) + tensors["attention.project.bias"]
    query, key, sentinel = projected[:, :64], np.rint(127 * np.tanh(projected[:, 64:128])) / 127, projected[:, 128]
    own = np.exp(logits - logits.max(1, keepdims=True))
    own /= own.sum(1, keepdims=True)
    for t in range(len(ids)):
        before = range(max(0, t - window + 1), t)
        scores = [query[t] @ key[i] / 8 + tensors["attention.recency"][t - i - 1] for i in before]
        shares = np.exp(np.array([sentinel[t], *scores]))
        shares /= shares.sum()
        own[t] *= shares[0]
        for i, share in zip(before, shares[1:], strict=True):
            own[t, ids[i + 1]] += share
    logs: NDArray[np.float64] = np.log(own)
    return logs


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_the_logits_are_those_of_the_equations(cell: Cell, layers: int, options: dict[str, Any]) -> None:
    checkpoint = small_checkpoint(cell, layers, **options)
    ids = np.random.default_rng(5).integers(0, checkpoint.config.vocabulary, 40)
    with torch.no_grad():
        logits, _ = from_tensors(checkpoint.config, checkpoint.tensors)(torch.from_numpy(ids[None]))
    expected, heard = logits_by_hand(checkpoint, ids)
    if checkpoint.config.attention:
        expected = mixture_by_hand(checkpoint, ids, expected, heard)
        assert np.abs(logits[0].numpy() - expected).mean() < 1e-5  # a key may fall to the other side of a 127th
        np.testing.assert_allclose(logits[0].numpy(), expected, rtol=0, atol=5e-3)
        return
    np.testing.assert_allclose(logits[0].numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_one_step_at_a_time_gives_what_the_whole_sequence_gives(cell: Cell, options: dict[str, Any]) -> None:
    small = small_checkpoint(cell, **options)
    net, ids = from_tensors(small.config, small.tensors), random_ids()
    with torch.no_grad():
        whole, last = net(ids)
        state, steps = net.initial_state(ROWS), []
        for at in range(TIME):
            logits, state = net(ids[:, at : at + 1], state)
            steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-5)
    for stepped, read in zip(state, last, strict=True):
        torch.testing.assert_close(stepped, read, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_may_be_cut_anywhere_when_the_state_is_carried(cell: Cell, options: dict[str, Any]) -> None:
    net, ids = network(cell, **options).eval(), random_ids()
    whole, last = net(ids)
    head, state = net(ids[:, :7])
    tail, end = net(ids[:, 7:], detach(state))
    torch.testing.assert_close(torch.cat([head, tail], 1), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(end, last, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("cell", "names"), [("lstm", "h0 c0 h1 c1"), ("gru", "h0 h1"), ("rnn", "h0 h1")])
def test_shapes_follow_the_contract(cell: Cell, names: str) -> None:
    net = network(cell)
    logits, state = net(random_ids())
    assert list(net.config.state_layout().widths) == names.split()
    assert logits.shape == (ROWS, TIME, 260)
    assert [part.shape for part in state] == [(ROWS, 16)] * len(names.split())
    assert [part.shape for part in net.initial_state(ROWS)] == [part.shape for part in state]
    assert not any(part.any() for part in net.initial_state(ROWS))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_state_dict_has_the_declared_names_shapes_and_count(cell: Cell, skip: bool) -> None:
    net = network(cell, skip=skip)
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()} == net.config.tensor_shapes()
    assert sum(parameter.numel() for parameter in net.parameters()) == net.config.parameters()


def test_the_forget_gate_starts_with_a_bias_of_exactly_one_and_every_other_with_zero() -> None:
    weights = network("lstm").state_dict()
    for layer in (0, 1):
        total = weights[f"layers.{layer}.bias_ih_l0"] + weights[f"layers.{layer}.bias_hh_l0"]
        expected = torch.zeros(64)
        expected[16:32] = 1
        assert torch.equal(total, expected)


@pytest.mark.parametrize("cell", CELLS)
def test_every_recurrent_gate_starts_orthogonal(cell: Cell) -> None:
    weights = network(cell).state_dict()
    for layer in (0, 1):
        gates = weights[f"layers.{layer}.weight_hh_l0"].chunk(SPECS[cell].gates)
        assert len(gates) == {"lstm": 4, "gru": 3, "rnn": 1}[cell]
        for gate in gates:
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_reaches_every_weight_and_the_state_before(cell: Cell, options: dict[str, Any]) -> None:
    net = network(cell, **options).train()
    parts = len(net.config.layer_widths())
    before = [part.requires_grad_() for part in net.initial_state(ROWS)[:parts]]
    # Half the window was read before, so that every distance is met.
    logits, _ = net(random_ids(), [*before, *net(random_ids(), None)[1][parts:]])
    logits[:, -1].square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert all(part.grad is not None and part.grad.any() for part in before)


def test_detaching_the_state_stops_the_gradient() -> None:
    net, ids = network("lstm"), random_ids()
    _, state = net(ids)
    assert all(part.requires_grad for part in state)
    assert not any(part.requires_grad for part in detach(state))


def test_weights_leave_as_float32_copies_and_come_back_to_the_bit() -> None:
    net = network("gru")
    tensors = to_tensors(net)
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.float32)}
    again = from_tensors(net.config, tensors)
    assert not again.training
    tensors["out.bias"][:] = 7
    for name, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cell", "transformer"),
        ("cell", []),
        ("layers", 0),
        ("layers", 17),
        ("layers", 2.0),
        ("layers", True),
        ("hidden", 0),
        ("hidden", 8193),
        ("embedding", -1),
        ("embedding", "128"),
        ("vocabulary", 256),
        ("vocabulary", 10**30),
        ("skip", 1),
        ("skip", "yes"),
        ("skip", None),
        ("attention", 8),
        ("attention", 40),
        ("attention", 4112),
        ("attention", -16),
        ("attention", True),
        ("attention", "16"),
        ("zoneout", 0.1),
        ("zoneout", 1.0),
        ("zoneout", -0.1),
        ("zoneout", float("nan")),
        ("zoneout", True),
        ("zoneout", "0.1"),
        ("zoneout", None),
    ],
)
def test_a_shape_outside_its_range_is_refused_by_name(name: str, value: object) -> None:
    values = {**NetworkConfig(vocabulary=300).to_json(), name: value}
    with pytest.raises(ParameterError, match=rf"^{name} is .+; choose .+\.$") as caught:
        NetworkConfig.from_json(values)
    assert caught.value.parameter == name
