"""The cells in PyTorch: modules that hold weights, fused kernels that read windows, and steps for a CUDA graph.

The equations, with x_t the input, h_t the hidden and c_t the cell state, σ the logistic function and ⊙ the
product by element:

Simple RNN (Elman 1990, "Finding structure in time", eq. of section 3):
    h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)

LSTM (Hochreiter & Schmidhuber 1997; with the forget gate of Gers, Schmidhuber & Cummins 2000):
    i, f, o = σ(W x_t + U h_{t-1} + b), each with weights of its own
    g = tanh(W_g x_t + U_g h_{t-1} + b_g)
    c_t = f ⊙ c_{t-1} + i ⊙ g
    h_t = o ⊙ tanh(c_t)

GRU (Cho et al. 2014, eq. 5-8; the reset gate after the product, as cuDNN and PyTorch have it):
    r, z = σ(W x_t + U h_{t-1} + b), each with weights of its own
    n = tanh(W_n x_t + b_in + r ⊙ (U_n h_{t-1} + b_hn))
    h_t = (1 - z) ⊙ n + z ⊙ h_{t-1}
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from model.cells.spec import Cell


class TorchCell(NamedTuple):
    """One cell in PyTorch.

    module: holds the weights of a layer, made of the widths of its input and of its hidden state.
    fused: reads a whole window by PyTorch's own kernels.
    step: the parts of a layer's state (B, H) after one step, of those before; of the gates (B, G·H) of the product of
        its hidden state; and of those of its input, 0 where the first hold the sum of both.
    """

    module: Callable[[int, int], nn.RNNBase]
    fused: Callable[..., Any]
    step: Callable[[Sequence[Tensor], Tensor, Tensor], list[Tensor]]


def _lstm(state: Sequence[Tensor], past: Tensor, x: Tensor) -> list[Tensor]:
    i, f, g, o = (past + x).chunk(4, dim=1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return [o.sigmoid() * c.tanh(), c]


def _gru(state: Sequence[Tensor], past: Tensor, x: Tensor) -> list[Tensor]:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = x.chunk(3, dim=1), past.chunk(3, dim=1)
    n = (x_n + (x_r + h_r).sigmoid() * h_n).tanh()
    return [n + (x_z + h_z).sigmoid() * (state[0] - n)]


def _rnn(_: Sequence[Tensor], past: Tensor, x: Tensor) -> list[Tensor]:
    return [(past + x).tanh()]


TORCH_CELLS: dict[Cell, TorchCell] = {
    "lstm": TorchCell(nn.LSTM, torch._VF.lstm, _lstm),
    "gru": TorchCell(nn.GRU, torch._VF.gru, _gru),
    "rnn": TorchCell(nn.RNN, torch._VF.rnn_tanh, _rnn),
}
