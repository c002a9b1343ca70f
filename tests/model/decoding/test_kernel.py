"""The compiled kernels equal the arithmetic in numpy to the bit, on every processor that runs the tests."""

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.cells.spec import Cell
from model.decoding.decoder import NUMPY, Decoder
from model.decoding.kernel_library import PROCESSORS, processors
from model.decoding.rows import Rows
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from tests.model.small import CELLS, CHARACTERS, OPTIONS, small_checkpoint

COMPILED = processors()
SLOTS = 9

pytestmark = pytest.mark.skipif(not COMPILED, reason="no kernel was compiled for this processor")


def pair(processor: str, cell: Cell = "lstm", layers: int = 2, **shape: Any) -> tuple[Decoder, Decoder]:
    """The same checkpoint on a compiled kernel and in numpy."""
    checkpoint = small_checkpoint(cell, layers, **shape)
    return Decoder(checkpoint, processor=processor), Decoder(checkpoint, processor=NUMPY)


def random_ids(decoder: Decoder, *shape: int, seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, decoder.config.vocabulary, shape).astype(np.int32)


def start(rows: Rows, decoder: Decoder, parameters: list[SamplingParameters], logprobs: int | None = None) -> None:
    """Let slot i draw with the i-th parameters, as choice i."""
    for slot, one in enumerate(parameters):
        prompt = random_ids(decoder, 5, seed=slot)
        rows.set(slot, RowSampling(one, decoder.ids, prompt, slot, logprobs), int(prompt[-1]))


def assert_same_scores(ours: Rows, theirs: Rows, units: int, ids: NDArray[np.int32]) -> None:
    """All rows read ids (B, T) to the same states, and to the same log-probabilities of all ids."""
    slots, every = range(len(ids)), 10_000
    columns = np.arange(0, units, 3, dtype=np.int32)
    found, expected = (rows.score(slots, ids, ids, every, columns, weights=True) for rows in (ours, theirs))
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert other is not None
        assert one.tobytes() == other.tobytes()
    assert ours.state.tobytes() == theirs.state.tobytes()


def test_kernels_come_best_first() -> None:
    assert [name for name in PROCESSORS if name in COMPILED] == COMPILED


def test_a_kernel_that_cannot_run_here_is_refused() -> None:
    with pytest.raises(ValueError, match="no kernel for z80 here; choose one of " + ", ".join(COMPILED)):
        Decoder(small_checkpoint("lstm", 1), processor="z80")


@pytest.mark.parametrize("processor", COMPILED)
def test_rows_outlive_the_decoder_that_made_them(processor: str) -> None:
    """The kernel reads weights that Python owns: all that can still step have to hold them."""
    compiled, plain = pair(processor, hidden=256)
    rows = compiled.rows(1)
    del compiled
    gc.collect()
    _ = [np.full((256, 256), at, np.float32) for at in range(50)]  # into the memory, were it free
    rows.read([0], random_ids(plain, 1, 40))
    expected = plain.rows(1)
    expected.read([0], random_ids(plain, 1, 40))
    assert rows.state.tobytes() == expected.state.tobytes()


@pytest.mark.parametrize("processor", COMPILED)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_the_same_to_the_bit(cell: Cell, layers: int, options: dict[str, Any], processor: str) -> None:
    """Hidden widths that fill no vector or tile, one exactly, and several; batches smaller and larger than a block."""
    for hidden, rows, steps in ((1, 3, 20), (24, 1, 20), (33, 7, 20), (64, 13, 20), (130, 35, 3)):
        compiled, plain = pair(processor, cell, layers, hidden=hidden, **options)
        ids = random_ids(plain, steps, rows)
        ours, theirs = compiled.rows(rows), plain.rows(rows)
        for column in ids[:, :, None]:
            assert_same_scores(ours, theirs, plain.config.units(), column)


@pytest.mark.parametrize("processor", COMPILED)
@pytest.mark.parametrize(("layers", "hidden", "skip"), [(2, 1100, False), (3, 370, True)])
def test_sums_longer_than_floats_hold_are_exact(layers: int, hidden: int, skip: bool, processor: str) -> None:
    """A state of 1,100 numbers at its largest times weights at their largest passes 2²⁴, where floats end."""
    checkpoint = small_checkpoint("rnn", layers, hidden=hidden, skip=skip)
    for tensor in checkpoint.tensors.values():  # so large that the state stays at its largest
        tensor[...] = np.random.default_rng(1).uniform(0.95, 1, tensor.shape)
    compiled, plain = Decoder(checkpoint, processor=processor), Decoder(checkpoint, processor=NUMPY)
    for rows in (1, 8):
        ours, theirs = compiled.rows(rows), plain.rows(rows)
        ours.state[:] = theirs.state[:] = 1
        assert_same_scores(ours, theirs, plain.config.units(), random_ids(plain, rows, 1))


@pytest.mark.parametrize("processor", COMPILED)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_prompts_are_read_the_same_in_any_slices(cell: Cell, options: dict[str, Any], processor: str) -> None:
    compiled, plain = pair(processor, cell, hidden=36, **options)
    ids = random_ids(plain, 3, 150)
    whole, sliced, expected = compiled.rows(SLOTS), compiled.rows(SLOTS), plain.rows(SLOTS)
    whole.read([4, 0, 7], ids)
    for at in (slice(0, 1), slice(1, 66), slice(66, 150)):
        sliced.read([4, 0, 7], ids[:, at])
    expected.read([4, 0, 7], ids)
    assert whole.state.tobytes() == expected.state.tobytes()
    assert sliced.state.tobytes() == expected.state.tobytes()
    assert np.flatnonzero(whole.state.view(np.int32).any(axis=1)).tolist() == [0, 4, 7]


PARAMETERS = st.builds(
    SamplingParameters,
    temperature=st.sampled_from([0, 0.3, 1, 1.0, 3, 100]),
    top_k=st.sampled_from([0, 0, 1, 2, 7, 40, 500]),
    top_p=st.sampled_from([1, 1, 1e-9, 0.3, 0.9, 0.999]),
    min_p=st.sampled_from([0, 0, 0.05, 0.5, 1]),
    typical_p=st.sampled_from([1, 1, 1e-9, 0.2, 0.95, 0.999]),
    repetition_penalty=st.sampled_from([1, 1, 1.3, 0.5]),
    presence_penalty=st.sampled_from([0, 0, 0.7, -0.5]),
    frequency_penalty=st.sampled_from([0, 0, 0.3, -0.1]),
    logit_bias=st.sampled_from([{}, {}, {}, {256: -100.0, 270: 2.5, 280: 0.125, 3: 100.0}]),
    seed=st.integers(-(2**63), 2**64 - 1),
)


@pytest.mark.parametrize("processor", COMPILED)
@settings(max_examples=60)
@given(parameters=st.lists(PARAMETERS, min_size=1, max_size=SLOTS), data=st.data())
def test_draws_are_the_same_whatever_the_parameters(
    processor: str, parameters: list[SamplingParameters], data: st.DataObject
) -> None:
    compiled, plain = pair(processor, **data.draw(st.sampled_from(OPTIONS)))
    logprobs = data.draw(st.sampled_from([None, 0, 5, 1000]))
    ours, theirs = compiled.rows(SLOTS), plain.rows(SLOTS)
    start(ours, compiled, parameters, logprobs)
    start(theirs, plain, parameters, logprobs)
    for _ in range(3):
        slots = data.draw(st.permutations(range(len(parameters))))[: data.draw(st.integers(1, len(parameters)))]
        steps = data.draw(st.integers(1, 9))
        drawn, expected = ours.draw(slots, steps), theirs.draw(slots, steps)
        for one, other in zip(drawn, expected, strict=True):
            assert (one is None) == (other is None)
            assert one is None or other is None or one.tobytes() == other.tobytes()
    assert ours.state.tobytes() == theirs.state.tobytes()


@pytest.mark.parametrize("processor", COMPILED)
def test_a_large_vocabulary_draws_the_same(processor: str) -> None:
    """Thousands of columns: many blocks, a last panel of odd width, and filters that keep a few of many."""
    characters = CHARACTERS + "".join(map(chr, range(0x4E00, 0x4E00 + 3001)))
    compiled, plain = pair(processor, characters=characters, hidden=16)
    filters: list[dict[str, Any]] = [{}, {"top_k": 50}, {"top_p": 0.7}, {"min_p": 0.1}, {"typical_p": 0.5}]
    parameters = [SamplingParameters(seed=seed, **chosen) for seed, chosen in enumerate(filters)]
    ours, theirs = compiled.rows(SLOTS), plain.rows(SLOTS)
    start(ours, compiled, parameters, 3)
    start(theirs, plain, parameters, 3)
    drawn, expected = ours.draw(range(5), 40), theirs.draw(range(5), 40)
    assert [part.tobytes() for part in drawn if part is not None] == [
        part.tobytes() for part in expected if part is not None
    ]


@pytest.mark.parametrize("processor", COMPILED)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("cell", "top"), [("gru", None), ("rnn", 0), ("gru", 4), ("lstm", 5000)])
def test_scores_are_the_same_in_any_slices(
    cell: Cell, top: int | None, options: dict[str, Any], processor: str
) -> None:
    compiled, plain = pair(processor, cell, 3, hidden=35, **options)
    ids = random_ids(plain, 2, 151)
    ours, theirs = compiled.rows(SLOTS), plain.rows(SLOTS)
    expected = theirs.score([3, 0], ids[:, :-1], ids[:, 1:], top)
    cuts = [slice(0, 1), slice(1, 90), slice(90, 150)]
    found = [ours.score([3, 0], ids[:, :-1][:, cut], ids[:, 1:][:, cut], top) for cut in cuts]
    for parts, whole in zip(zip(*found, strict=True), expected, strict=True):
        assert (whole is None) == (parts[0] is None)
        assert whole is None or np.concatenate(parts, axis=1).tobytes() == whole.tobytes()
    assert ours.state.tobytes() == theirs.state.tobytes()


@pytest.mark.parametrize("processor", COMPILED)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_traced_states_are_those_that_reading_leaves(cell: Cell, options: dict[str, Any], processor: str) -> None:
    """In one call or many, beside others or alone, and the scores are those without a trace."""
    compiled, _ = pair(processor, cell, 3, hidden=35, **options)
    ids = random_ids(compiled, 3, 81)
    whole, stepped, untraced = (compiled.rows(SLOTS) for _ in range(3))
    every = np.arange(compiled.config.units(), dtype=np.int32)
    traced = whole.score([5, 0, 2], ids[:, :-1], ids[:, 1:], 4, every)
    some = every[[0, 34, 35, 36, 70, 104]]
    for at in range(80):
        part = stepped.score([1], ids[2:, at : at + 1], ids[2:, at + 1 : at + 2], None, some)
        assert traced.states is not None
        assert part.states is not None
        assert traced.states[2, at].tobytes() == stepped.state[1, every].tobytes()
        assert part.states[0, 0].tobytes() == stepped.state[1, some].tobytes()
    plain = untraced.score([5, 0, 2], ids[:, :-1], ids[:, 1:], 4)
    for one, other in zip(traced[:5], plain[:5], strict=True):
        assert one is not None
        assert other is not None
        assert one.tobytes() == other.tobytes()
    assert plain.states is None
    assert whole.state.tobytes() == untraced.state.tobytes()


@pytest.mark.parametrize("columns", [[-1], [0, 0], [3, 2], [10_000]])
def test_only_columns_of_the_state_can_be_traced(columns: list[int]) -> None:
    rows = Decoder(small_checkpoint()).rows(1)
    ids = np.ones((1, 4), np.int32)
    with pytest.raises(IndexError, match="in ascending order"):
        rows.score([0], ids, ids, None, np.array(columns, np.int32))
    assert not rows.state.any()


@pytest.mark.parametrize("processor", COMPILED)
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[-1]], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_in_floats_a_row_does_not_depend_on_its_neighbours(cell: Cell, options: dict[str, Any], processor: str) -> None:
    """Products in floats are fused and so the processor's own, but each sum still runs in one order."""
    decoder = Decoder(small_checkpoint(cell, hidden=33, **options), "fp32", processor=processor)
    parameters = [SamplingParameters(seed=seed) for seed in range(SLOTS)]
    together, alone = decoder.rows(SLOTS), decoder.rows(SLOTS)
    start(together, decoder, parameters, 2)
    start(alone, decoder, parameters, 2)
    ids = random_ids(decoder, SLOTS, 70)
    together.read(range(SLOTS), ids)
    drawn = together.draw(range(SLOTS), 12)
    for slot in range(SLOTS):
        for at in range(70):
            alone.read([slot], ids[slot : slot + 1, at : at + 1])
        one = alone.draw([slot], 5).ids.tolist()[0] + alone.draw([slot], 7).ids.tolist()[0]
        assert drawn.ids[slot].tolist() == one
    assert together.state.tobytes() == alone.state.tobytes()


@pytest.mark.parametrize("processor", [*COMPILED, NUMPY])
def test_an_id_the_network_does_not_have_is_refused_and_changes_nothing(processor: str) -> None:
    decoder = Decoder(small_checkpoint(), processor=processor)
    rows = decoder.rows(2)
    size = decoder.config.vocabulary
    with pytest.raises(IndexError):
        rows.read([0, 1], np.array([[1, 2], [3, size]], np.int32))
    rows.set(0, RowSampling(SamplingParameters(), decoder.ids, np.zeros(0, int)), size)
    with pytest.raises(IndexError):
        rows.draw([0], 3)
    assert not rows.state.any()


@pytest.mark.parametrize("processor", COMPILED)
def test_a_kernel_works_on_states_it_is_given(processor: str) -> None:
    """A state copied from one slot to another goes on as the first does."""
    compiled, _ = pair(processor)
    rows = compiled.rows(3)
    rows.read([0], random_ids(compiled, 1, 30))
    rows.state[2] = rows.state[0]
    for slot in (0, 2):
        rows.set(slot, RowSampling(SamplingParameters(seed=5), compiled.ids, np.zeros(0, int)), 280)
    drawn = rows.draw([2, 0], 20).ids
    assert drawn[0].tolist() == drawn[1].tolist()
    assert len(set(drawn[0].tolist())) > 5
