"""The equation of the essay Unroll grew out of, as a class of numpy, against the network in its simple-RNN form."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.cells.spec import CELLS, Cell
from model.config import NetworkConfig
from model.network import Network

Array = NDArray[np.float64]


class EssayRNN:
    """h_t = tanh(W_hh h_{t-1} + W_xh x_t + b), y_t = W_hy h_t + b_y; x_t is 1 at the character and 0 elsewhere."""

    def __init__(self, w_xh: Array, w_hh: Array, w_hy: Array, b: Array, b_y: Array) -> None:
        self.w_xh, self.w_hh, self.w_hy, self.b, self.b_y = w_xh, w_hh, w_hy, b, b_y

    def forward(self, xs: Array) -> tuple[Array, Array]:
        """The outputs (T, V) and the memories (T, H), the hidden state after each step, of inputs (T, V)."""
        h, memories = np.zeros(len(self.w_hh)), []
        for x in xs:
            h = np.tanh(self.w_hh @ h + self.w_xh @ x + self.b)
            memories.append(h)
        return np.array(memories) @ self.w_hy.T + self.b_y, np.array(memories)


def essay_and_network() -> tuple[EssayRNN, Network]:
    torch.manual_seed(5)
    network = Network(NetworkConfig(cell="rnn", layers=1, hidden=24, embedding=12, vocabulary=300)).eval()
    with torch.no_grad():
        network.get_parameter("layers.0.bias_ih_l0").normal_(std=0.3)
    weights = {name: value.detach().double().numpy() for name, value in network.named_parameters()}
    layer = {name.rpartition(".")[2]: value for name, value in weights.items() if name.startswith("layers.0")}
    essay = EssayRNN(
        layer["weight_ih_l0"] @ weights["embedding.weight"].T,
        layer["weight_hh_l0"],
        weights["out.weight"],
        layer["bias_ih_l0"] + layer["bias_hh_l0"],
        weights["out.bias"],
    )
    return essay, network


def test_the_essays_class_and_the_network_have_the_same_memories_and_outputs() -> None:
    essay, network = essay_and_network()
    ids = torch.randint(300, (1, 60))
    outputs, memories = essay.forward(np.eye(300)[ids[0].numpy()])
    with torch.no_grad():
        logits, _, (whole,) = network(ids, memories=True)
    assert np.abs(memories).max() > 0.5  # not the near-linear middle of tanh alone
    assert np.abs(whole[0].numpy() - memories).max() < 1e-6
    assert np.abs(logits[0].numpy() - outputs).max() < 5e-6


def test_step_by_step_the_memories_are_those_of_the_essays_class() -> None:
    essay, network = essay_and_network()
    ids = torch.randint(300, (1, 60))
    _, memories = essay.forward(np.eye(300)[ids[0].numpy()])
    state = None
    for at in range(ids.shape[1]):
        with torch.no_grad():
            _, state, (step,) = network(ids[:, at : at + 1], state, memories=True)
        assert np.abs(step[0, 0].numpy() - memories[at]).max() < 1e-6


@pytest.mark.parametrize("cell", CELLS)
def test_the_memories_of_every_layer_end_in_the_state(cell: Cell) -> None:
    network = Network(NetworkConfig(cell=cell, layers=2, hidden=8, embedding=6, vocabulary=280, skip=True)).eval()
    ids = torch.randint(280, (3, 7))
    with torch.no_grad():
        logits, state, memories = network(ids, memories=True)
        alone, _ = network(ids)
    parts = len(CELLS[cell].state)
    assert [tuple(one.shape) for one in memories] == [(3, 7, 8), (3, 7, 8)]
    assert all(torch.equal(memory[:, -1], state[number * parts]) for number, memory in enumerate(memories))
    assert torch.equal(logits, alone)
