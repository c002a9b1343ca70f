"""One step of the network in numpy: what the compiled kernel must equal, and its stand-in where there is none.

Sums of products of whole numbers are exact in any order as long as floats can hold them, so the matrix library may
add up int8 products in float32: 1,024 of at most 127 × 127 stay below 2²⁴.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import levels
from model.cells.numpy_cells import NUMPY_CELLS
from model.config import NetworkConfig
from model.decoding.step_weights import Product, StepWeights

Array = NDArray[np.float32]

EXACT_TERMS = 1024  # products of two numbers up to 127 whose sum float32 holds exactly


class NumpyStep:
    """Steps rows of a network; a part of `model.decoding.decoder.Decoder`.

    config: the network's. weights: as `StepWeights.of` made them, in whole numbers or in floats.
    """

    def __init__(self, config: NetworkConfig, weights: StepWeights) -> None:
        layout = config.state_layout()
        self._cell, self._table = NUMPY_CELLS[config.cell], weights.table
        self._state = [[layout[name] for name in config.layer_state(layer)] for layer in range(config.layers)]
        self._int8 = weights.out.scale is not None
        self._layers = [(layer, _transposed(layer.input), _transposed(layer.recurrent)) for layer in weights.layers]
        self._out = weights.out, _transposed(weights.out)
        self._every = weights.every, _transposed(weights.every)
        self._skip = weights.skip

    @property
    def nbytes(self) -> int:
        """Memory of the weights, as they are and transposed."""
        pairs = [(layer.input, below) for layer, below, _ in self._layers]
        pairs += [(layer.recurrent, own) for layer, _, own in self._layers] + [self._out, self._every]
        matrices = [matrix for product, other in pairs if product is not None for matrix in (product.matrix, other)]
        return self._table.nbytes + sum(matrix.nbytes for matrix in matrices if matrix is not None)

    def advance(self, ids: NDArray[np.integer[Any]], state: Array) -> None:
        """Read one id (B,) per row into the state (B, floats), in place."""
        below = np.zeros((0, 0), np.float32)
        for at, (layer, input_matrix, recurrent_matrix) in enumerate(self._layers):
            own = [state[:, part] for part in self._state[at]]
            h = self._hidden(own[0])
            if layer.joined:
                h = np.concatenate([below, h], axis=1)
            past = self._multiply(h, layer.recurrent, recurrent_matrix)
            if at == 0:
                x = self._table[ids]
            elif layer.input is not None:
                x = self._multiply(below, layer.input, input_matrix)
            else:
                x = None
            self._cell(own, past, x)
            below = self._hidden(own[0])

    def logits(self, state: Array) -> Array:
        """The logits (B, S) of rows in a state (B, floats)."""
        return self._multiply(self._heard(state), *self._out)

    def every_logits(self, state: Array) -> Array:
        """The logits of every id (B, V), also of those that no text is drawn from."""
        return self._multiply(self._heard(state), *self._every)

    def _heard(self, state: Array) -> Array:
        """What the output reads: the last hidden state (B, H), or with skip connections all of them (B, L·H)."""
        hidden = [state[:, own[0]] for own in self._state]
        return self._hidden(np.concatenate(hidden, axis=1) if self._skip else hidden[-1])

    def _hidden(self, h: Array) -> Array:
        return levels(h) if self._int8 else np.ascontiguousarray(h)

    def _multiply(self, x: Array, product: Product, matrix: Array) -> Array:
        """x (B, K) times a matrix (K, N), scaled, plus its bias."""
        if product.scale is None:
            sums = (x[:, None] @ matrix)[:, 0]  # one by one: a row's sums must not depend on its neighbours
        elif x.shape[1] <= EXACT_TERMS:
            sums = (x @ matrix) * product.scale
        else:
            whole = np.zeros((len(x), matrix.shape[1]), np.int32)
            for at in range(0, x.shape[1], EXACT_TERMS):
                whole += (x[:, at : at + EXACT_TERMS] @ matrix[at : at + EXACT_TERMS]).astype(np.int32)
            sums = whole.astype(np.float32) * product.scale
        return sums if product.bias is None else sums + product.bias


def _transposed(product: Product | None) -> Array:
    """The matrix (K, N) of a product in floats, none for none."""
    if product is None:
        return np.zeros((0, 0), np.float32)
    return np.ascontiguousarray(product.matrix.T, np.float32)
