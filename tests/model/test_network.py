"""The PyTorch network: one contract for sequences and steps, three cells, and how their weights begin."""

import numpy as np
import pytest
import torch

from model.config import GATES, Cell, NetworkConfig
from model.errors import ParameterError
from model.network import Network, detach, from_tensors, to_tensors
from tests.model.small import CELLS, small_checkpoint

ROWS, TIME = 3, 20

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def network(cell: Cell, dropout: float = 0.0) -> Network:
    torch.manual_seed(1)
    return Network(NetworkConfig(cell=cell, layers=2, hidden=16, embedding=8, dropout=dropout, vocabulary=260))


def random_ids() -> torch.Tensor:
    return torch.randint(260, (ROWS, TIME), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("cell", CELLS)
def test_one_step_at_a_time_gives_what_the_whole_sequence_gives(cell: Cell) -> None:
    small = small_checkpoint(cell)
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


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_may_be_cut_anywhere_when_the_state_is_carried(cell: Cell) -> None:
    net, ids = network(cell).eval(), random_ids()
    whole, last = net(ids)
    head, state = net(ids[:, :7])
    tail, end = net(ids[:, 7:], detach(state))
    torch.testing.assert_close(torch.cat([head, tail], 1), whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(end, last, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("cell", "names"), [("lstm", "h0 c0 h1 c1"), ("gru", "h0 h1"), ("rnn", "h0 h1")])
def test_shapes_follow_the_contract(cell: Cell, names: str) -> None:
    net = network(cell)
    logits, state = net(random_ids())
    assert net.config.state_names() == names.split()
    assert logits.shape == (ROWS, TIME, 260)
    assert [part.shape for part in state] == [(ROWS, 16)] * len(names.split())
    assert [part.shape for part in net.initial_state(ROWS)] == [part.shape for part in state]
    assert not any(part.any() for part in net.initial_state(ROWS))


@pytest.mark.parametrize("cell", CELLS)
def test_the_state_dict_has_the_declared_names_shapes_and_count(cell: Cell) -> None:
    net = network(cell)
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
        gates = weights[f"layers.{layer}.weight_hh_l0"].chunk(GATES[cell])
        assert len(gates) == {"lstm": 4, "gru": 3, "rnn": 1}[cell]
        for gate in gates:
            torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_reaches_every_weight_and_the_state_before(cell: Cell) -> None:
    net = network(cell, dropout=0.3)
    before = [part.requires_grad_() for part in net.initial_state(ROWS)]
    logits, _ = net(random_ids(), before)
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


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_is_on_while_training_and_off_in_evaluation(cell: Cell) -> None:
    net, ids = network(cell, dropout=0.5), random_ids()
    assert not torch.equal(net(ids)[0], net(ids)[0])
    net.eval()
    assert torch.equal(net(ids)[0], net(ids)[0])
    assert torch.equal(net(ids)[0], from_tensors(net.config, to_tensors(net))(ids)[0])


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
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", float("nan")),
        ("dropout", None),
    ],
)
def test_a_shape_outside_its_range_is_refused_by_name(name: str, value: object) -> None:
    values = {**NetworkConfig(vocabulary=300).to_json(), name: value}
    with pytest.raises(ParameterError, match=rf"^{name} is .+; choose .+\.$") as caught:
        NetworkConfig.from_json(values)
    assert caught.value.parameter == name
