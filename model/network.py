"""The recurrent network in PyTorch: ids (B, T) and a state in, logits (B, T, V) and the next state out."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.cells.spec import CELLS
from model.cells.torch_attention import Attention
from model.cells.torch_attention import initial_state as nothing_seen
from model.cells.torch_cells import TORCH_CELLS
from model.config import NetworkConfig

State = list[Tensor]
"""What rows carry between characters: a tensor (B, H) for each part of the layers, then those of the attention."""

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


class Network(nn.Module):
    """Embedding, a stack of recurrent layers of one cell, and a linear map to logits; with attention, to ln p."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        widths = [config.embedding] + [config.hidden] * (config.layers - 1)
        self.layers = nn.ModuleList(TORCH_CELLS[config.cell].module(width, config.hidden) for width in widths)
        self.out = nn.Linear(config.output_width(), config.vocabulary)
        self.attention = Attention(config.output_width(), config.attention) if config.attention else None
        for layer in self.layers:
            initialise(layer, config)

    def initial_state(self, rows: int) -> State:
        """The state before the first character: zeros."""
        device = self.out.weight.device
        state = [torch.zeros(rows, width, device=device) for width in self.config.layer_widths().values()]
        return state + (nothing_seen(rows, self.config.attention, device) if self.config.attention else [])

    @overload
    def forward(
        self, ids: Tensor, state: State | None = None, *, memories: Literal[False] = False
    ) -> tuple[Tensor, State]: ...

    @overload
    def forward(
        self, ids: Tensor, state: State | None = None, *, memories: Literal[True]
    ) -> tuple[Tensor, State, list[Tensor]]: ...

    def forward(
        self, ids: Tensor, state: State | None = None, *, memories: bool = False
    ) -> tuple[Tensor, State] | tuple[Tensor, State, list[Tensor]]:
        """Read characters, one or many, from a state.

        ids: int64 (B, T); T = 1 is one step, and gives what the same position of a whole sequence gives.
        state: as the last call returned it; None starts from zeros.
        memories: whether to return, too, the hidden state of every layer after each character.
        Returns logits (B, T, V), or ln p with attention, and the state after the last character, still attached to the
        graph; and with memories a list of (B, T, H), one for each layer from the lowest up.
        """
        logits, after, read = self.read(self.embedding(ids.t()), ids, state)
        return (logits, after, [one.transpose(0, 1) for one in read]) if memories else (logits, after)

    def read(self, x: Tensor, ids: Tensor, state: State | None) -> tuple[Tensor, State, list[Tensor]]:
        """The same of characters whose embeddings are x (T, B, E); the hidden states of every layer are (T, B, H)."""
        config, state = self.config, self.initial_state(ids.shape[0]) if state is None else state
        read, after = [], State()
        for number in range(config.layers):
            x, last = read_layer(config, x, self.layer_weights(number), layer_state(config, state, number))
            read.append(x)
            after += last
        heard = torch.cat(read, -1) if config.skip else x
        logits = self.out(heard).transpose(0, 1)
        if self.attention is None:
            return logits, after, read
        window = self.attention.read(heard, ids, attention_state(config, state))
        return self.attention(logits, window), after + window.state(), read

    def layer_weights(self, number: int) -> list[Tensor]:
        """W_ih (G·H, E or H), W_hh (G·H, H), b_ih and b_hh (G·H,) of a layer."""
        return [getattr(self.layers[number], name) for name in WEIGHTS]


def layer_state(config: NetworkConfig, state: State, number: int) -> State:
    """The parts of a state that belong to one layer: h, and an LSTM's c."""
    parts = len(CELLS[config.cell].state)
    return state[number * parts : (number + 1) * parts]


def attention_state(config: NetworkConfig, state: State) -> State:
    """The parts of a state that belong to the attention."""
    return state[config.layers * len(CELLS[config.cell].state) :]


def read_layer(config: NetworkConfig, x: Tensor, weights: Sequence[Tensor], state: State) -> tuple[Tensor, State]:
    """One layer over a whole window, by PyTorch's fused kernels.

    x: (T, B, E or H). Returns its hidden states (T, B, H), and the state after the last.
    """
    before = [part.to(x.dtype).unsqueeze(0) for part in state]
    hidden = tuple(before) if len(before) == 2 else before[0]
    read = TORCH_CELLS[config.cell].fused
    x, *last = read(x, hidden, list(weights), True, 1, 0.0, torch.is_grad_enabled(), False, False)
    return x, [part.squeeze(0).float() for part in last]


def initialise(layer: nn.Module, config: NetworkConfig) -> None:
    """Orthogonal recurrent weights for every gate, Glorot input weights, zero biases, forget bias +1.

    Sources: Saxe et al. 2014 (orthogonal); Glorot & Bengio 2010; Gers et al. 2000 and Jozefowicz et al. 2015
    (forget bias, put into one of PyTorch's two bias vectors so that their sum is 1).
    """
    parameters, cell = dict(layer.named_parameters()), CELLS[config.cell]
    with torch.no_grad():
        for gate in parameters["weight_hh_l0"].chunk(cell.gates):
            nn.init.orthogonal_(gate)
        nn.init.xavier_uniform_(parameters["weight_ih_l0"])
        parameters["bias_ih_l0"].zero_()
        parameters["bias_hh_l0"].zero_()
        if cell.forget_gate is not None:
            parameters["bias_ih_l0"].chunk(cell.gates)[cell.forget_gate].fill_(1.0)


def detach(state: State) -> State:
    """Cut the graph between two windows: truncated backpropagation through time (Williams & Peng 1990)."""
    return [part.detach() for part in state]


def to_tensors(network: Network) -> dict[str, NDArray[np.float32]]:
    """The weights as float32 numpy arrays on the CPU, wherever the network was trained."""
    return {name: value.detach().float().cpu().numpy().copy() for name, value in network.state_dict().items()}


def from_tensors(config: NetworkConfig, tensors: Mapping[str, NDArray[Any]]) -> Network:
    """The network of a checkpoint's weights, in evaluation mode."""
    network = Network(config)
    network.load_state_dict({name: torch.from_numpy(np.array(value, np.float32)) for name, value in tensors.items()})
    return network.eval()
