"""The cells' equations in numpy: one step of one layer, which the compiled kernel must equal to the bit."""

from collections.abc import Callable, Sequence

import numpy as np

from model.arithmetic import Array, sigmoid, tanh
from model.cells.spec import Cell

NumpyCell = Callable[[Sequence[Array], Array, Array | None], None]
"""Moves the parts of a layer's state (B, H), in place. Then the gates (B, G·H) of the product of its hidden state; and
those of its input, None where the first hold the sum of both."""


def _lstm(state: Sequence[Array], past: Array, x: Array | None) -> None:
    """c ← f ⊙ c + i ⊙ g, h ← o ⊙ tanh(c) (Hochreiter & Schmidhuber 1997; Gers et al. 2000)."""
    h, c = state
    i, f, g, o = np.split(past if x is None else past + x, 4, axis=1)
    c[:] = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h[:] = sigmoid(o) * tanh(c)


def _gru(state: Sequence[Array], past: Array, x: Array | None) -> None:
    """h ← (1 - z) ⊙ n + z ⊙ h with n = tanh(x_n + r ⊙ h_n) (Cho et al. 2014), with one product less."""
    assert x is not None
    (h,) = state
    (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(x, 3, axis=1), np.split(past, 3, axis=1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = tanh(x_n + r * h_n)
    h[:] = n + z * (h - n)


def _rnn(state: Sequence[Array], past: Array, x: Array | None) -> None:
    """h ← tanh(W x + U h + b) (Elman 1990)."""
    (h,) = state
    h[:] = tanh(past if x is None else past + x)


NUMPY_CELLS: dict[Cell, NumpyCell] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
