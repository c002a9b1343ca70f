"""A row's state as a value: what is saved in the middle of a text goes on elsewhere as if nothing had happened."""

from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from model.cells.spec import Cell
from model.cells.state_layout import StateLayout
from model.decoding.decoder import NUMPY, Decoder
from model.decoding.kernel_library import processors
from model.decoding.rows import Rows
from model.decoding.state import RowState, most_bytes
from model.decoding.step_weights import Quantization
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from tests.model.small import CELLS, small_checkpoint

PENALISED = SamplingParameters(seed=7, repetition_penalty=1.3, presence_penalty=0.2, frequency_penalty=0.4, top_p=0.9)
PLAIN = SamplingParameters(seed=2**63 + 1)
COLUMNS = 9
UNEVEN = StateLayout({"h0": 3, "window0": 17, "memory": 1})


@cache
def decoder_of(cell: Cell, attention: int, quantization: Quantization, processor: str) -> Decoder:
    return Decoder(small_checkpoint(cell, attention=attention), quantization, processor)


def begun(rows: Rows, slot: int, decoder: Decoder, parameters: SamplingParameters) -> RowSampling:
    prompt = small_checkpoint().tokenizer.encode("the moon").astype(np.int32)
    rows.state[slot] = 0
    rows.read([slot], prompt[None, :-1])
    sampling = RowSampling(parameters, decoder.ids, prompt)
    rows.set(slot, sampling, int(prompt[-1]))
    return sampling


@pytest.mark.parametrize("parameters", [PENALISED, PLAIN, SamplingParameters(temperature=0)], ids=["pen", "plain", "0"])
@pytest.mark.parametrize("processor", [*processors(), NUMPY])
@pytest.mark.parametrize("quantization", ["int8", "fp32"])
@pytest.mark.parametrize(("cell", "attention"), [*((cell, 0) for cell in CELLS), ("lstm", 16)])
def test_a_saved_row_goes_on_in_another_slot_of_another_decoder(
    cell: Cell, attention: int, quantization: Quantization, processor: str, parameters: SamplingParameters
) -> None:
    decoder = decoder_of(cell, attention, quantization, processor)
    layout = decoder.config.state_layout()
    rows = decoder.rows(3)
    sampling = begun(rows, 1, decoder, parameters)
    whole = rows.draw([1], 30).ids[0]

    for at in (1, 2, 13, 29):
        first = decoder.rows(3)
        sampling = begun(first, 1, decoder, parameters)
        written = first.draw([1], at).ids[0]
        drawn = np.bincount(np.searchsorted(decoder.ids, written), minlength=len(decoder.ids)).astype(np.int32)
        saved = RowState(
            network=np.array(first.state[1]),
            last=int(written[-1]),
            seed=parameters.seed,
            position=at,
            drawn=drawn,
            in_prompt=sampling.in_prompt if parameters.penalises else np.zeros(len(decoder.ids), np.bool_),
        ).to_bytes(layout)
        assert len(saved) <= most_bytes(layout, len(decoder.ids))

        read = RowState.from_bytes(saved, layout, len(decoder.ids))
        second = decoder.rows(2)
        second.state[0] = read.network
        going_on = RowSampling(parameters, decoder.ids, np.zeros(0, np.int32))
        if parameters.penalises:
            going_on.in_prompt = read.in_prompt
        read.resume(going_on)
        second.set(0, going_on, read.last)
        np.testing.assert_array_equal(second.draw([0], 30 - at).ids[0], whole[at:])


floats = arrays(np.float32, 21, elements=st.floats(width=32, allow_nan=False))
states = st.builds(
    RowState,
    network=floats,
    last=st.integers(0, 2**32 - 1),
    seed=st.integers(0, 2**64 - 1),
    choice=st.integers(0, 2**32 - 1),
    position=st.integers(0, 2**64 - 1),
    drawn=arrays(np.int32, COLUMNS, elements=st.integers(0, 2**31 - 1)),
    in_prompt=arrays(np.bool_, COLUMNS),
    undecoded=st.binary(max_size=3),
    held=st.text(max_size=10),
    pattern=st.binary(max_size=16),
    walk=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=33).map(tuple),
    written=st.lists(st.integers(0, 10**6), max_size=5).map(tuple),
)


@given(states)
def test_what_is_written_is_read_again(state: RowState) -> None:
    content = state.to_bytes(UNEVEN)
    assert len(content) <= most_bytes(UNEVEN, COLUMNS)
    read = RowState.from_bytes(content, UNEVEN, COLUMNS)
    for name in RowState.__slots__:
        np.testing.assert_array_equal(getattr(read, name), getattr(state, name))
    assert read.to_bytes(UNEVEN) == content


@given(states, st.data())
@settings(max_examples=300)
def test_damage_is_refused_or_reads_as_some_state(state: RowState, data: st.DataObject) -> None:
    content = bytearray(state.to_bytes(UNEVEN))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(ParameterError):
        RowState.from_bytes(bytes(content), UNEVEN, COLUMNS)


def test_older_bytes_without_the_later_parts_are_read_and_later_ones_are_refused() -> None:
    state = RowState(network=np.ones(21, np.float32), last=5, drawn=np.zeros(9, np.int32), in_prompt=np.zeros(9, bool))
    content = state.to_bytes(UNEVEN)
    assert RowState.from_bytes(content, UNEVEN, 9).written == ()
    newer = content + bytes([4]) + b"tree" + (2).to_bytes(4, "little") + b"ab"
    with pytest.raises(ParameterError, match="parts tree"):
        RowState.from_bytes(newer, UNEVEN, 9)
    with pytest.raises(ParameterError, match="another version"):
        RowState.from_bytes(b"\x02" + content[1:], UNEVEN, 9)
    with pytest.raises(ParameterError, match="part memory has 2 numbers"):
        RowState.from_bytes(content, StateLayout({"h0": 3, "window0": 17, "memory": 2}), 9)
