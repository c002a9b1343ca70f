"""The GPU's step: the decoder's results but for rounding, and states that never leave the device unasked."""

from typing import Any

import numpy as np
import pytest
import torch

from model.cells.spec import Cell
from model.decoding.cuda_decoder import CudaDecoder
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from tests.model.plain import PlainReader
from tests.model.small import CELLS, OPTIONS, small_checkpoint

SLOTS, STEPS = 6, 60
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_GPU)]

pytestmark = [pytest.mark.usefixtures("one_torch_thread"), pytest.mark.parametrize("device", DEVICES)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_rows_are_the_decoder_s_but_for_rounding(cell: Cell, layers: int, options: dict[str, Any], device: str) -> None:
    checkpoint = small_checkpoint(cell, layers, **options)
    exact, decoder = Decoder(checkpoint, "fp32"), CudaDecoder(checkpoint, device=device)
    assert np.array_equal(decoder.ids, exact.ids)
    ids = np.random.default_rng(7).integers(0, checkpoint.config.vocabulary, (3, STEPS)).astype(np.int32)
    rows, slots = decoder.rows(SLOTS), [4, 0, 3]
    rows.read(slots, ids[:, :-1])
    expected = exact.rows(3)
    expected.read(range(3), ids[:, :-1])
    found, wanted = rows.score(slots, ids[:, -1:], ids[:, :1]), expected.score(range(3), ids[:, -1:], ids[:, :1])
    # A key that falls to the other side of a 127th changes a probability by a thousandth.
    np.testing.assert_allclose(found.logprobs, wanted.logprobs, rtol=0, atol=5e-3 if options.get("attention") else 5e-5)
    units, own = slice(0, checkpoint.config.units()), np.array(rows.state)[slots]
    np.testing.assert_allclose(own[:, units], expected.state[:, units], rtol=0, atol=5e-5)
    if options.get("attention"):  # what followed each key, and the place of the newest
        assert np.array_equal(own[:, -17:], expected.state[:, -17:])
    assert decoder.where == "fp32 on a CUDA GPU"


@pytest.mark.parametrize("cell", CELLS)
def test_what_rows_report_of_their_draws_is_what_the_decoder_thinks_of_them(cell: Cell, device: str) -> None:
    checkpoint = small_checkpoint(cell)
    exact, rows = Decoder(checkpoint, "fp32"), CudaDecoder(checkpoint, device=device).rows(SLOTS)
    for slot in range(SLOTS):
        sampling = RowSampling(SamplingParameters(seed=slot, top_p=0.95), exact.ids, np.zeros(0, np.int32), 0, 2)
        rows.set(slot, sampling, 256 + slot)
    drawn = rows.draw(range(SLOTS), STEPS)
    assert drawn.logprobs is not None
    for slot in range(SLOTS):
        reader, last = PlainReader(checkpoint, "fp32"), 256 + slot
        for at in range(STEPS):
            reader.read(last)
            last = int(drawn.ids[slot, at])
            wide = reader.logits()[0].astype(np.float64)
            thought = wide[np.searchsorted(exact.ids, last)] - np.log(np.exp(wide).sum())
            assert drawn.logprobs[slot, at] == pytest.approx(thought, abs=1e-4)


@pytest.mark.parametrize("cell", CELLS)
def test_a_slot_holds_the_same_to_the_bit_beside_any_others(cell: Cell, device: str) -> None:
    decoder = CudaDecoder(small_checkpoint(cell, hidden=33, skip=True, attention=32), device=device)
    ids = np.random.default_rng(3).integers(0, decoder.config.vocabulary, (SLOTS, STEPS)).astype(np.int32)
    together = decoder.rows(SLOTS)
    together.read(range(SLOTS), ids)
    for slot in range(SLOTS):
        alone = decoder.rows(SLOTS)
        alone.read([slot], ids[slot : slot + 1])
        assert alone.state[slot].copy().tobytes() == together.state[slot].copy().tobytes()


def test_a_state_is_used_as_an_array_is(device: str) -> None:
    decoder = CudaDecoder(small_checkpoint(), device=device)
    rows = decoder.rows(SLOTS)
    state: Any = rows.state
    shape = (decoder.config.state_layout().floats,)
    assert (len(state), state.shape, state[2].shape) == (SLOTS, (SLOTS, *shape), shape)
    value = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    state[2] = value
    value_before = value.copy()
    value[:] = 7
    state[4] = state[2]
    state[2] = 0
    state[[1, 3]] = np.stack([value_before, value])
    expected = np.stack([np.zeros(shape), value_before, np.zeros(shape), value, value_before, np.zeros(shape)])
    np.testing.assert_array_equal(state, expected)
    np.testing.assert_array_equal(state[[1, 3]].copy(), expected[[1, 3]])
    assert np.array(state, np.float64).dtype == np.float64
    taken = state[4].copy()
    state[4] = 1
    np.testing.assert_array_equal(taken, value_before)
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(state, copy=False)


def test_an_id_the_network_does_not_have_is_refused_before_it_reaches_the_device(device: str) -> None:
    decoder = CudaDecoder(small_checkpoint(), device=device)
    rows = decoder.rows(2)
    for wrong in (-1, decoder.config.vocabulary):
        with pytest.raises(IndexError, match="not one of the network's"):
            rows.read([1], np.array([[wrong]], np.int32))
    assert not np.array(rows.state).any()


def test_without_a_gpu_the_remedy_is_named(device: str) -> None:
    if device == "cuda" or torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA GPU")
    with pytest.raises(ParameterError, match="finds no CUDA GPU here; choose the CPU, or install its driver") as caught:
        CudaDecoder(small_checkpoint())
    assert caught.value.parameter == "device"
