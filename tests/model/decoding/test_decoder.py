"""The CPU decoder: the same network as PyTorch runs, each row alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.arithmetic import Array
from model.cells.spec import Cell
from model.checkpoint import Checkpoint
from model.decoding.decoder import NUMPY, Decoder
from model.decoding.kernel_library import processors
from model.decoding.step_weights import Quantization
from model.errors import ParameterError
from model.network import from_tensors
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from tests.model.small import CELLS, OPTIONS, SIZE, small_checkpoint

ROWS, STEPS = 4, 120
QUANTIZATIONS: tuple[Quantization, ...] = ("int8", "fp32")
PROCESSORS = [*processors(), NUMPY]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def random_ids(checkpoint: Checkpoint, *shape: int) -> NDArray[np.int64]:
    return np.random.default_rng(7).integers(0, checkpoint.config.vocabulary, shape)


def run(decoder: Decoder, ids: NDArray[np.int64]) -> tuple[Array, Array]:
    """ln p (B, T, V) of every id after each of ids (B, T), and the last units, read from the initial state."""
    rows, vocabulary, read = decoder.rows(len(ids)), decoder.config.vocabulary, ids.astype(np.int32)
    scored = rows.score(range(len(ids)), read, read, vocabulary)
    assert scored.top_ids is not None
    assert scored.top_logprobs is not None
    logprobs = np.empty((*ids.shape, vocabulary), np.float32)
    np.put_along_axis(logprobs, scored.top_ids.astype(np.int64), scored.top_logprobs, axis=2)
    return logprobs, rows.state[:, : decoder.config.units()]


def run_network(checkpoint: Checkpoint, ids: NDArray[np.int64]) -> tuple[Array, Array]:
    """The same by PyTorch."""
    with torch.no_grad():
        logits, state = from_tensors(checkpoint.config, checkpoint.tensors)(torch.from_numpy(ids))
    return logits.log_softmax(dim=2).numpy(), torch.cat(state, dim=1)[:, : checkpoint.config.units()].numpy()


def after(decoder: Decoder, ids: NDArray[np.int64], state: Array) -> Array:
    """The state after ids (B,) are read in a state."""
    rows = decoder.rows(len(ids))
    rows.state[:] = state
    rows.read(range(len(ids)), ids[:, None].astype(np.int32))
    return rows.state


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_fp32_steps_equal_the_network_over_a_long_sequence(
    cell: Cell, layers: int, options: dict[str, Any], processor: str
) -> None:
    """One tanh differs by up to 4e-7, which comes to 6e-6; three layers of the lively simple network make 5.4e-5 of it.

    Of those 5.4e-5 PyTorch's own distance from the same in float64 is 1.6e-5: there the rounding itself grows.
    Keys of attention are rounded to 127ths: where one falls to the other side, some ln p change by up to a hundredth.
    """
    tolerance = 1e-4 if (cell, layers) == ("rnn", 3) else 3e-5
    checkpoint = small_checkpoint(cell, layers, **options)
    ids = random_ids(checkpoint, ROWS, STEPS)
    logprobs, state = run(Decoder(checkpoint, "fp32", processor=processor), ids)
    expected, last = run_network(checkpoint, ids)
    if checkpoint.config.attention:
        assert np.abs(logprobs - expected).mean() < tolerance
    np.testing.assert_allclose(logprobs, expected, rtol=0, atol=2e-2 if checkpoint.config.attention else tolerance)
    np.testing.assert_allclose(state, last, rtol=0, atol=tolerance)


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_int8_steps_stay_close_to_the_network_over_a_long_sequence(
    cell: Cell, layers: int, options: dict[str, Any], processor: str
) -> None:
    """A hidden state is rounded by at most 1/254 and a weight by 1/254 of its row's largest, at every step.

    Through the recurrence these errors come to 0.01 to 0.07 of a state in 120 steps with weights this lively, the
    simple network the largest, having no gate that forgets; of logits that spread by 1 to 2.5, to 0.015 of that
    on average. Bounds at twice what was measured: a wrong scale is off by ten times more.
    """
    checkpoint = small_checkpoint(cell, layers, **options)
    ids = random_ids(checkpoint, ROWS, STEPS)
    logprobs, state = run(Decoder(checkpoint, "int8", processor=processor), ids)
    expected, last = run_network(checkpoint, ids)
    assert np.abs(logprobs - expected).mean() < 0.03 * expected.std()
    np.testing.assert_allclose(state, last, rtol=0, atol=0.15)


def test_int8_rounds_nothing_that_is_exact_in_eight_bits() -> None:
    """Weights that are multiples of 1/127 of their row's largest and a state that is one of 1/127 lose nothing."""
    checkpoint = small_checkpoint("lstm", 1)
    random = np.random.default_rng(3)
    exact = dict(checkpoint.tensors)
    for name in ("layers.0.weight_hh_l0", "out.weight"):
        whole = random.integers(-127, 128, exact[name].shape)
        whole[:, 0] = 127
        exact[name] = (whole / 127).astype(np.float32)
    checkpoint = Checkpoint(config=checkpoint.config, tokenizer=checkpoint.tokenizer, tensors=exact)
    hidden = (random.integers(-127, 128, (ROWS, checkpoint.config.hidden)) / 127).astype(np.float32)
    state = np.concatenate([hidden, np.zeros_like(hidden)], axis=1)
    ids = random_ids(checkpoint, ROWS)
    rounded, kept = (after(Decoder(checkpoint, quantization), ids, state) for quantization in QUANTIZATIONS)
    np.testing.assert_allclose(rounded, kept, rtol=0, atol=2e-6)


def test_an_int8_product_errs_by_at_most_half_a_step_per_weight() -> None:
    """With a state of positive 127ths only the weights are rounded, each by at most half its row's step."""
    checkpoint = small_checkpoint("rnn", 1)
    hidden = (np.random.default_rng(3).integers(0, 128, (ROWS, 24)) / 127).astype(np.float32)
    ids = random_ids(checkpoint, ROWS)
    sums = []
    for quantization in QUANTIZATIONS:
        found = after(Decoder(checkpoint, quantization), ids, hidden)
        sums.append(np.arctanh(found.astype(np.float64)))
    steps = np.abs(checkpoint.tensors["layers.0.weight_hh_l0"]).max(axis=1) / 127
    settled = np.abs(sums[1]) < 2  # beyond, tanh is too flat to be undone in fp32
    assert settled.mean() > 0.5
    error = np.abs(sums[0] - sums[1]) - hidden.sum(axis=1, keepdims=True) * steps / 2
    assert (error[settled] < 1e-5).all()


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_skip_connection_of_weight_zero_is_as_good_as_none(
    cell: Cell, quantization: Quantization, processor: str
) -> None:
    """The output's columns are the layers' from the lowest up, so the last are those that read the last layer."""
    checkpoint = small_checkpoint(cell, 3)
    weight = checkpoint.tensors["out.weight"]
    wide = np.concatenate([np.zeros((SIZE, 2 * weight.shape[1]), np.float32), weight], axis=1)
    skipping = replace(
        checkpoint, config=replace(checkpoint.config, skip=True), tensors={**checkpoint.tensors, "out.weight": wide}
    )
    ids = random_ids(checkpoint, ROWS, 20)
    (logprobs, state), (expected, last) = (
        run(Decoder(one, quantization, processor=processor), ids) for one in (skipping, checkpoint)
    )
    if quantization == "int8":
        assert logprobs.tobytes() == expected.tobytes()
    else:  # a longer sum in floats, in the order of the machine's BLAS
        np.testing.assert_allclose(logprobs, expected, rtol=1e-6, atol=1e-6)
    assert state.tobytes() == last.tobytes()


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[-1]], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_a_row_is_the_same_to_the_bit_whatever_stands_beside_it(
    cell: Cell, options: dict[str, Any], quantization: Quantization, processor: str
) -> None:
    checkpoint = small_checkpoint(cell, hidden=33, embedding=7, **options)
    decoder = Decoder(checkpoint, quantization, processor=processor)
    ids = random_ids(checkpoint, 63, 6)
    alone = [run(decoder, ids[row : row + 1]) for row in range(63)]
    for rows in (1, 2, 3, 5, 8, 13, 31, 32, 63):
        logprobs, state = run(decoder, ids[-rows:])
        expected = [np.concatenate(parts).tobytes() for parts in zip(*alone[-rows:], strict=True)]
        assert [logprobs.tobytes(), state.tobytes()] == expected


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_text_is_drawn_from_the_ids_that_training_saw(quantization: Quantization) -> None:
    """What a draw reports of them is what a score says of all ids, but for the share of those that are left out."""
    checkpoint = small_checkpoint(unseen=np.array([0, 5, 6, 258, SIZE - 1]))
    decoder = Decoder(checkpoint, quantization)
    seen = decoder.ids
    assert set(range(checkpoint.config.vocabulary)) - set(seen.tolist()) == {0, 5, 6, 258, SIZE - 1}
    rows, last = decoder.rows(1), np.array([[270]])
    rows.set(0, RowSampling(SamplingParameters(), seen, last[0], logprobs=len(seen)), 270)
    drawn = rows.draw([0], 1)
    assert drawn.top_ids is not None
    assert drawn.top_logprobs is not None
    assert sorted(drawn.top_ids[0, 0].tolist()) == seen.tolist()
    every = run(decoder, last)[0][0, 0].astype(np.float64)
    among_seen = every - np.log(np.exp(every[seen]).sum())
    np.testing.assert_allclose(drawn.top_logprobs[0, 0], among_seen[drawn.top_ids[0, 0]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_rows_begin_in_a_state_of_zeros_every_part_of_which_a_step_moves(cell: Cell) -> None:
    checkpoint = small_checkpoint(cell)
    rows = Decoder(checkpoint).rows(ROWS)
    layout = checkpoint.config.state_layout()
    assert rows.state.shape == (ROWS, layout.floats)
    assert not rows.state.any()
    rows.read(range(ROWS), random_ids(checkpoint, ROWS, 1).astype(np.int32))
    assert all(rows.state[:, layout[name]].any() for name in layout.widths)


def test_another_quantization_is_refused() -> None:
    with pytest.raises(ParameterError, match="choose int8 or fp32") as caught:
        Decoder(small_checkpoint(), "int4")  # type: ignore[arg-type]
    assert caught.value.parameter == "quantization"
