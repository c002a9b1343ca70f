"""A checkpoint's weights as a step multiplies them: in 8 bits or in floats, the first layer's input a table.

A hidden state lies in [-1, 1]: an LSTM's by o ⊙ tanh(c), a simple RNN's by tanh, a GRU's because it is a weighted mean
of a tanh and its own past. So it is rounded to 127ths without calibration. Weights are rounded to 127ths of the largest
of their row. The input half of the first layer is a product with a one-hot vector, so it is looked up in a table
(V, G·H).
"""

from ctypes import c_int64, c_void_p
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import LEVELS
from model.cells.spec import CELLS
from model.checkpoint import Checkpoint
from model.decoding.kernel_library import function, library

Array = NDArray[np.float32]
Quantization = Literal["int8", "fp32"]

TABLE_ROWS = 32  # rows of the table that numpy makes at once: their sums stay in the second-level cache
TILE = 64  # sums the kernel adds up at once
COMPILED_ROWS = 1024  # rows of the table that the kernel makes at once
ROUNDED_ROWS = 256  # rows of a matrix that are rounded at once


@dataclass(frozen=True)
class Product:
    """One matrix product of a step: x (B, K) -> x Wᵀ · scale + bias, (B, N).

    matrix: (N, K), int8 or float32. scale: (N,), what a sum of whole numbers is worth; None in floats.
    bias: (N,), None where a table holds it.
    """

    matrix: NDArray[Any]
    scale: Array | None
    bias: Array | None


@dataclass(frozen=True)
class Layer:
    """The products of one recurrent layer.

    input: of the hidden state below; None in the first layer, and where `joined`.
    recurrent: of the layer's own hidden state; where `joined`, of both, the one below first: (N, 2H).
    """

    input: Product | None
    recurrent: Product
    joined: bool


@dataclass(frozen=True)
class AttentionWeights:
    """What a window is asked by.

    project: of what the output reads: query, key and sentinel, (2 · KEY + 1, L·H). recency: what a distance of 1, 2, …
    adds to a score, (window - 1,).
    """

    project: Product
    recency: Array


@dataclass(frozen=True)
class StepWeights:
    """Everything one step multiplies with.

    table: what each id adds to the gates of the first layer, (V, G·H). layers: from the lowest up.
    out: of the last hidden state, or with `skip` of all layers', from the lowest up, (S, L·H); a column of logits for
    each of the wanted ids. every: the same for every id. attention: None without any.
    """

    table: Array
    layers: list[Layer]
    out: Product
    every: Product
    skip: bool
    attention: AttentionWeights | None = None

    @classmethod
    def of(cls, checkpoint: Checkpoint, ids: NDArray[np.int64], quantization: Quantization) -> "StepWeights":
        """Round a checkpoint's weights; ids (S,): those with a column of logits."""
        config, tensors = checkpoint.config, checkpoint.tensors
        int8 = quantization == "int8"
        joined = CELLS[config.cell].joined
        layers = []
        for layer in range(config.layers):
            w_ih, w_hh, b_ih, b_hh = (
                tensors[f"layers.{layer}.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            bias = b_ih + b_hh if joined else b_ih
            if layer == 0:
                table = input_table(tensors["embedding.weight"], w_ih, bias)
                layers.append(Layer(None, _product([w_hh], None if joined else b_hh, int8), False))
            elif joined:
                layers.append(Layer(None, _product([w_ih, w_hh], bias, int8), True))
            else:
                layers.append(Layer(_product([w_ih], b_ih, int8), _product([w_hh], b_hh, int8), False))
        every = _product([tensors["out.weight"]], tensors["out.bias"], int8)
        out = every if len(ids) == config.vocabulary else _of_ids(every, ids)
        attention = None
        if config.attention:
            project = _product([tensors["attention.project.weight"]], tensors["attention.project.bias"], int8)
            attention = AttentionWeights(project, tensors["attention.recency"])
        return cls(table, layers, out, every, config.skip, attention)


def columns_of(ids: NDArray[np.int64], vocabulary: int) -> NDArray[np.int32]:
    """Which column of logits each id of the vocabulary has (V,), -1 for none. ids: of the columns (S,)."""
    columns = np.full(vocabulary, -1, np.int32)
    columns[ids] = np.arange(len(ids))
    return columns


def _product(matrices: list[Array], bias: Array | None, int8: bool) -> Product:
    """matrices: side by side, all of N rows."""
    if not int8:
        return Product(np.ascontiguousarray(matrices[0] if len(matrices) == 1 else np.hstack(matrices)), None, bias)
    outputs = len(matrices[0])
    rounded = np.empty((outputs, sum(matrix.shape[1] for matrix in matrices)), np.int8)
    scale = np.empty(outputs, np.float32)
    for at in range(0, outputs, ROUNDED_ROWS):  # a few rows at a time: what stands between takes little memory
        rows = np.hstack([matrix[at : at + ROUNDED_ROWS] for matrix in matrices])
        one = np.maximum(np.abs(rows).max(axis=1), np.float32(1e-12)) / np.float32(127)
        rounded[at : at + ROUNDED_ROWS] = np.clip(np.rint(rows / one[:, None]), -127, 127)
        scale[at : at + ROUNDED_ROWS] = one
    return Product(rounded, scale / np.float32(LEVELS), bias)


def _of_ids(product: Product, ids: NDArray[np.int64]) -> Product:
    """The outputs of a product that are wanted."""
    scale, bias = (None if part is None else part[ids] for part in (product.scale, product.bias))
    return Product(product.matrix[ids], scale, bias)


def input_table(embedding: Array, weight: Array, bias: Array) -> Array:
    """embedding (V, E) × weight (N, E) transposed + bias (N,), in float64, the same to the bit on every processor.

    Each sum runs over the embedding from its first to its last number: a library's product would choose an order.
    """
    columns = np.ascontiguousarray(weight.T, np.float64)
    if library() is not None:
        return _compiled_table(np.ascontiguousarray(embedding), columns, bias.astype(np.float64))
    table = np.empty((len(embedding), len(weight)), np.float32)
    for at in range(0, len(embedding), TABLE_ROWS):
        rows = embedding[at : at + TABLE_ROWS].astype(np.float64)
        sums = np.tile(bias.astype(np.float64), (len(rows), 1))
        for k in range(rows.shape[1]):
            sums += rows[:, k, None] * columns[k]
        table[at : at + TABLE_ROWS] = sums
    return table


def _compiled_table(embedding: Array, columns: NDArray[np.float64], bias: NDArray[np.float64]) -> Array:
    """The same by the kernel, which takes sums 64 at a time: several times as fast."""
    outputs = len(bias)
    padding = -outputs % TILE
    columns, bias = np.pad(columns, ((0, 0), (0, padding))), np.pad(bias, (0, padding))
    table = np.empty((len(embedding), outputs), np.float32)
    padded = np.empty((min(COMPILED_ROWS, len(embedding)), outputs + padding), np.float32)
    multiply = function("input_table", c_int64, c_int64, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, result=None)
    for at in range(0, len(embedding), COMPILED_ROWS):
        rows = embedding[at : at + COMPILED_ROWS]
        addresses = (array.ctypes.data for array in (rows, columns, bias, padded))
        multiply(len(rows), embedding.shape[1], outputs + padding, *addresses)
        table[at : at + COMPILED_ROWS] = padded[: len(rows), :outputs]
    return table
