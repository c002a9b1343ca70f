"""What is left out by chance while a network learns: how much, for how long, and nothing in evaluation."""

from typing import Any

import numpy as np
import pytest
import torch

from model.cells.spec import Cell
from model.config import NetworkConfig
from model.errors import ParameterError
from model.network import Network, State
from training.data.batches import Batches
from training.loop.learner import Learner
from training.loop.masked_forward import read_window
from training.loop.masks import MaskSource
from training.planning.config import TrainingConfig
from training.planning.regularisation import Regularisation

CPU = torch.device("cpu")
IDS = torch.randint(0, 300, (6, 40), generator=torch.Generator().manual_seed(2))


def make_network(cell: Cell = "lstm", **options: Any) -> Network:
    torch.manual_seed(1)
    return Network(NetworkConfig(cell=cell, layers=2, hidden=64, embedding=32, vocabulary=300, **options))


def read(
    network: Network, shares: dict[str, Any] | None = None, state: State | None = None, seed: int = 3
) -> tuple[torch.Tensor, State]:
    torch.manual_seed(seed)
    masks = MaskSource(network.config, Regularisation(**(shares or {})), CPU).draw(len(IDS), state is not None)
    return read_window(network, IDS, state, masks)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("skip", [False, True])
def test_with_nothing_left_out_it_reads_as_the_network_does(cell: Cell, skip: bool) -> None:
    network = make_network(cell, skip=skip)
    logits, state = read(network)
    expected, expected_state = network(IDS)
    assert torch.equal(logits.transpose(0, 1), expected)
    assert all(torch.equal(one, other) for one, other in zip(state, expected_state, strict=True))


@pytest.mark.parametrize("share", ["input_dropout", "layer_dropout", "output_dropout", "weight_drop"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_share_changes_what_is_learnt_and_a_seed_fixes_it(cell: Cell, share: str) -> None:
    network = make_network(cell)
    plain, _ = read(network)
    dropped, _ = read(network, {share: 0.5})
    again, _ = read(network, {share: 0.5})
    other, _ = read(network, {share: 0.5}, seed=4)
    assert not torch.allclose(plain, dropped)
    assert torch.equal(dropped, again)
    assert not torch.equal(dropped, other)
    dropped.sum().backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("locked", [True, False])
def test_a_locked_mask_holds_for_the_window_and_keeps_the_mean(locked: bool) -> None:
    torch.manual_seed(5)
    config = NetworkConfig(hidden=400, vocabulary=300)
    masks = MaskSource(config, Regularisation(locked=locked, output_dropout=0.3), CPU).draw(8, carried=False)
    masked = masks.output(torch.ones(50, 8, 400))
    assert sorted(set(masked.flatten().tolist())) == pytest.approx([0.0, 1 / 0.7])
    assert float(masked.mean()) == pytest.approx(1, abs=0.03)
    assert bool((masked == masked[:1]).all()) is locked
    assert not torch.equal(masked[:, 0], masked[:, 1])  # each row has its own


def test_weight_drop_leaves_out_its_share_of_the_recurrent_weights_alone() -> None:
    torch.manual_seed(6)
    config = NetworkConfig(layers=2, hidden=64, vocabulary=300)
    masks = MaskSource(config, Regularisation(weight_drop=0.25), CPU).draw(8, carried=False)
    assert [factors.shape for factors in masks.weights] == [(256, 64), (256, 64)]
    assert not torch.equal(*masks.weights)
    assert float((masks.weights[1] != 0).float().mean()) == pytest.approx(0.75, abs=0.02)
    assert sorted(set(masks.weights[1].flatten().tolist())) == pytest.approx([0.0, 1 / 0.75])
    x = torch.ones(3, 8, 64)
    assert masks.input(x) is masks.output(x) is masks.between[0](x) is x


def test_dropped_states_start_their_sequences_from_nothing() -> None:
    network = make_network()
    _, state = network(IDS)
    carried, _ = read(network, {"drop_state": 0.5}, state, seed=4)
    whole, _ = network(IDS, state)
    fresh, _ = network(IDS)
    rows = [
        "carried" if torch.allclose(carried[:, row], whole[row], atol=1e-5) else "fresh"
        for row in range(len(IDS))
        if torch.allclose(carried[:, row], whole[row], atol=1e-5)
        or torch.allclose(carried[:, row], fresh[row], atol=1e-5)
    ]
    assert len(rows) == len(IDS)
    assert set(rows) == {"carried", "fresh"}


def test_averaged_weights_are_the_mean_of_those_that_were_and_leave_the_others_alone() -> None:
    config = NetworkConfig(layers=1, hidden=16, embedding=8, vocabulary=300)
    learner = Learner(TrainingConfig(network=config, epochs=1), torch.device("cpu"))
    batches = Batches(np.arange(3000) % 300, 4, 20, 1)
    seen = []
    for _ in range(5):
        learner.learn(batches.next(), 1e-2)
        learner.add_to_average()
        seen.append(learner.network.out.weight.detach().clone())
    with learner.best_weights() as network:
        assert torch.allclose(network.out.weight, torch.stack(seen).mean(0), atol=1e-6)
    assert torch.equal(learner.network.out.weight, seen[-1])


@pytest.mark.parametrize("name", ["input_dropout", "layer_dropout", "output_dropout", "weight_drop", "drop_state"])
@pytest.mark.parametrize("value", [1.0, -0.1, float("nan")])
def test_a_share_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=f"--{name.replace('_', '-')} is .*; choose a share from 0 to below 1"):
        Regularisation(**{name: value})  # type: ignore[arg-type]
