"""Weights as a step multiplies them: a table that is the product, rounding within its bounds, matrices joined right."""

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from model.cells.spec import CELLS as SPECS
from model.cells.spec import Cell
from model.decoding.step_weights import TABLE_ROWS, Product, Quantization, StepWeights, input_table
from tests.model.small import CELLS, SIZE, small_checkpoint

IDS = np.arange(SIZE)
QUANTIZATIONS: tuple[Quantization, ...] = ("int8", "fp32")


def meant(product: Product) -> NDArray[np.float64]:
    """The weights that whole numbers stand for: a scale is for a hidden state in 127ths."""
    assert product.scale is not None
    return product.matrix * (product.scale.astype(np.float64) * 127)[:, None]


def test_the_table_is_the_product_of_embedding_and_weights_rounded_once() -> None:
    random = np.random.default_rng(5)
    rows = TABLE_ROWS + 3  # one more block than fits at once
    embedding, weight = (random.normal(size=(n, 9)).astype(np.float32) for n in (rows, 12))
    bias = random.normal(size=12).astype(np.float32)
    table = input_table(embedding, weight, bias)
    product = embedding.astype(np.float64) @ weight.T.astype(np.float64) + bias
    assert table.dtype == np.float32
    assert table.shape == (rows, 12)
    np.testing.assert_allclose(table, product, rtol=2**-24, atol=1e-15)
    for row, column in ((0, 0), (TABLE_ROWS, 11), (rows - 1, 5)):
        terms = zip(embedding[row].tolist(), weight[column].tolist(), strict=True)
        whole = Fraction(float(bias[column])) + sum(Fraction(a) * Fraction(b) for a, b in terms)
        assert table[row, column] == np.float32(float(whole))


def test_each_sum_of_the_table_runs_from_the_first_number_to_the_last() -> None:
    """1 is lost beside 2⁶⁰ when it comes before -2⁶⁰ has come, and is kept after."""
    weight = np.ones((1, 3), np.float32)
    embedding = np.array([[2.0**60, 1, -(2.0**60)], [2.0**60, -(2.0**60), 1]], np.float32)
    assert input_table(embedding, weight, np.zeros(1, np.float32)).tolist() == [[0], [1]]


@pytest.mark.parametrize("cell", CELLS)
def test_the_table_is_the_first_layer_s_input_half_in_either_arithmetic(cell: Cell) -> None:
    checkpoint = small_checkpoint(cell)
    tensors = checkpoint.tensors
    bias = tensors["layers.0.bias_ih_l0"].copy()
    if cell != "gru":
        bias += tensors["layers.0.bias_hh_l0"]
    expected = tensors["embedding.weight"] @ tensors["layers.0.weight_ih_l0"].T + bias
    for quantization in QUANTIZATIONS:
        table = StepWeights.of(checkpoint, IDS, quantization).table
        np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_above_the_first_multiplies_both_hidden_states_at_once_unless_a_gate_stands_between(cell: Cell) -> None:
    checkpoint = small_checkpoint(cell, layers=2)
    tensors, hidden = checkpoint.tensors, checkpoint.config.hidden
    first, second = StepWeights.of(checkpoint, IDS, "fp32").layers
    gates = SPECS[cell].gates * hidden
    w_ih, w_hh, b_ih, b_hh = (
        tensors[f"layers.1.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    assert (first.input, first.joined) == (None, False)
    assert np.array_equal(first.recurrent.matrix, tensors["layers.0.weight_hh_l0"])
    assert (first.recurrent.bias is None) == (cell != "gru")
    if cell == "gru":
        assert not second.joined
        assert second.input is not None
        assert second.input.bias is not None
        assert second.recurrent.bias is not None
        assert np.array_equal(second.input.matrix, w_ih)
        assert np.array_equal(second.recurrent.matrix, w_hh)
        assert np.array_equal(second.input.bias, b_ih)
        assert np.array_equal(second.recurrent.bias, b_hh)
    else:
        assert second.joined
        assert second.input is None
        assert second.recurrent.bias is not None
        assert second.recurrent.matrix.shape == (gates, 2 * hidden)
        assert np.array_equal(second.recurrent.matrix[:, :hidden], w_ih)
        assert np.array_equal(second.recurrent.matrix[:, hidden:], w_hh)
        assert np.array_equal(second.recurrent.bias, b_ih + b_hh)


@pytest.mark.parametrize("cell", CELLS)
def test_a_weight_is_rounded_by_at_most_half_a_127th_of_its_row_s_largest(cell: Cell) -> None:
    checkpoint = small_checkpoint(cell, layers=2)
    rounded, kept = (StepWeights.of(checkpoint, IDS, quantization) for quantization in QUANTIZATIONS)
    pairs = [(rounded.out, kept.out)]
    for one, other in zip(rounded.layers, kept.layers, strict=True):
        pairs.append((one.recurrent, other.recurrent))
        if one.input is not None and other.input is not None:
            pairs.append((one.input, other.input))
    assert len(pairs) == (4 if cell == "gru" else 3)
    for whole, floats in pairs:
        assert whole.matrix.dtype == np.int8
        assert np.abs(whole.matrix.astype(int)).max(axis=1).tolist() == [127] * len(whole.matrix)
        step = np.abs(floats.matrix).max(axis=1, keepdims=True) / 127
        assert (np.abs(meant(whole) - floats.matrix) <= step * (0.5 + 1e-5)).all()
        assert (whole.bias is None) == (floats.bias is None)
        if whole.bias is not None and floats.bias is not None:
            assert np.array_equal(whole.bias, floats.bias)


def test_a_row_of_nothing_but_zeros_stays_one() -> None:
    checkpoint = small_checkpoint()
    checkpoint.tensors["out.weight"][3] = 0
    out = StepWeights.of(checkpoint, IDS, "int8").out
    assert out.scale is not None
    assert not out.matrix[3].any()
    assert np.isfinite(out.scale).all()


def test_the_output_has_a_row_for_each_wanted_id_in_their_order() -> None:
    checkpoint, ids = small_checkpoint(), np.array([5, 260, SIZE - 1])
    out = StepWeights.of(checkpoint, ids, "fp32").out
    assert out.bias is not None
    assert np.array_equal(out.matrix, checkpoint.tensors["out.weight"][ids])
    assert np.array_equal(out.bias, checkpoint.tensors["out.bias"][ids])


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_output_reads_the_hidden_states_of_all_layers_where_connections_skip(quantization: Quantization) -> None:
    checkpoint = small_checkpoint(layers=3, skip=True)
    weights = StepWeights.of(checkpoint, IDS, quantization)
    kept = checkpoint.tensors["out.weight"]
    assert weights.out.matrix.shape == kept.shape == (SIZE, 3 * checkpoint.config.hidden)
    found = weights.out.matrix if quantization == "fp32" else meant(weights.out)
    step = np.abs(kept).max(axis=1, keepdims=True) / 127
    assert (np.abs(found - kept) <= (step * (0.5 + 1e-5) if quantization == "int8" else 0)).all()
    assert weights.skip


def test_the_bits_are_the_ones_they_always_were() -> None:
    """Weights made of whole numbers alone, so that no random generator of another numpy can change them."""
    checkpoint = small_checkpoint("lstm", layers=2, hidden=8, embedding=4)
    for number, tensor in enumerate(checkpoint.tensors.values()):
        tensor[...] = ((np.arange(tensor.size) * (7 + number) % 101 - 50) / 64).reshape(tensor.shape)
    weights = StepWeights.of(checkpoint, IDS, "int8")
    found = hashlib.sha256(weights.table.tobytes())
    for product in (*(layer.recurrent for layer in weights.layers), weights.out):
        assert product.scale is not None
        found.update(product.matrix.tobytes() + product.scale.tobytes())
    assert found.hexdigest()[:16] == "0b4e88e20f4f8cf1"
