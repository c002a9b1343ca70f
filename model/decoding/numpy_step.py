"""One step of the network in numpy: what the compiled kernel must equal, and its stand-in where there is none.

Sums of products of whole numbers are exact in any order as long as floats can hold them, so the matrix library may
add up int8 products in float32: 1,024 of at most 127 × 127 stay below 2²⁴.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import levels
from model.cells.numpy_attention import NumpyAttention
from model.cells.numpy_cells import NUMPY_CELLS
from model.config import NetworkConfig
from model.decoding.step_weights import Product, StepWeights, columns_of

Array = NDArray[np.float32]

EXACT_TERMS = 1024  # products of two numbers up to 127 whose sum float32 holds exactly


class NumpyStep:
    """Steps rows of a network; a part of `model.decoding.decoder.Decoder`.

    config: the network's. weights: as `StepWeights.of` made them, in whole numbers or in floats.
    ids: of the columns of logits (S,).
    """

    def __init__(self, config: NetworkConfig, weights: StepWeights, ids: NDArray[np.int64]) -> None:
        layout = config.state_layout()
        self._cell, self._table = NUMPY_CELLS[config.cell], weights.table
        self._state = [[layout[name] for name in config.layer_state(layer)] for layer in range(config.layers)]
        self._int8 = weights.out.scale is not None
        self._layers = [(layer, _transposed(layer.input), _transposed(layer.recurrent)) for layer in weights.layers]
        self._out = weights.out, _transposed(weights.out)
        self._every = weights.every, _transposed(weights.every)
        self._skip = weights.skip
        self._attention, self._project = None, None
        if weights.attention is not None:
            self._attention = NumpyAttention(layout, weights.attention.recency, self._int8)
            self._project = weights.attention.project, _transposed(weights.attention.project)
            self._columns = columns_of(ids, config.vocabulary), np.arange(config.vocabulary, dtype=np.int32)

    @property
    def nbytes(self) -> int:
        """Memory of the weights, as they are and transposed."""
        pairs = [(layer.input, below) for layer, below, _ in self._layers]
        pairs += [(layer.recurrent, own) for layer, _, own in self._layers] + [self._out, self._every]
        pairs += [] if self._project is None else [self._project]
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
        if self._attention is not None and self._project is not None:
            self._attention.remember(ids, self._multiply(self._heard(state), *self._project), state)

    def logits(self, state: Array) -> Array:
        """The logits (B, S) of rows in a state (B, floats)."""
        return self._pointed(state, 0, self._out)

    def every_logits(self, state: Array) -> Array:
        """The logits of every id (B, V), also of those that no text is drawn from."""
        return self._pointed(state, 1, self._every)

    def _pointed(self, state: Array, which: int, out: tuple[Product, Array]) -> Array:
        """Logits, with what the attention makes of them. which: of the two columns that an id has."""
        heard = self._heard(state)
        logits = self._multiply(heard, *out)
        if self._attention is None or self._project is None:
            return logits
        return self._attention.point(self._multiply(heard, *self._project), state, logits, self._columns[which])

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
