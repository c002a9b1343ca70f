"""Rows of a running batch: each slot writes its own text, the same beside any others and in any grouping of steps."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.cells.spec import Cell
from model.checkpoint import Checkpoint
from model.decoding.cuda_decoder import CudaDecoder
from model.decoding.decoder import NUMPY, Decoder
from model.decoding.kernel_library import processors
from model.decoding.rows import Drawn, Rows
from model.decoding.step_weights import Quantization
from model.generate import TokenLogprobs, generate
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from tests.model.plain import write_plainly
from tests.model.small import CELLS, small_checkpoint

SLOTS, LONGEST = 5, 40
EVERY_ID = small_checkpoint(unseen=np.zeros(0, np.int64))  # 289 columns, bytes among them

QUANTIZATIONS: tuple[Quantization, ...] = ("int8", "fp32")
CPU: dict[str, tuple[Quantization, str]] = {
    f"{quantization}-{name}": (quantization, name) for quantization in QUANTIZATIONS for name in (*processors(), NUMPY)
}
GPU = {"cuda-step-on-the-cpu": "cpu", "cuda": "cuda"}
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
EVERY = [*CPU, *(pytest.param(name, marks=NO_GPU if device == "cuda" else ()) for name, device in GPU.items())]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


class Text(NamedTuple):
    """What a slot is to write: a continuation of a prompt."""

    prompt: str
    parameters: SamplingParameters
    choice: int = 0
    logprobs: int | None = None


TEXTS = (
    Text("the ", SamplingParameters(seed=1)),
    Text("the ", SamplingParameters(seed=1), choice=1, logprobs=0),
    Text("月é", SamplingParameters(seed=2, temperature=0.7, top_k=20, top_p=0.9), logprobs=3),
    Text("a", SamplingParameters(seed=3, temperature=0), logprobs=5),
    Text("Ωab", SamplingParameters(seed=2**63, min_p=0.05, top_k=300)),
    Text("quick", SamplingParameters(seed=5, repetition_penalty=1.4, presence_penalty=0.3, frequency_penalty=0.2)),
    Text("😀", SamplingParameters(seed=6, temperature=2.5, top_p=0.5, frequency_penalty=-0.3), logprobs=1),
)


def checkpoint_of(cell: Cell) -> Checkpoint:
    return EVERY_ID if cell == "lstm" else small_checkpoint(cell, unseen=np.zeros(0, np.int64))


@cache
def decoder_of(name: str, cell: Cell = "lstm") -> Any:
    checkpoint = checkpoint_of(cell)
    if name in GPU:
        return CudaDecoder(checkpoint, device=GPU[name])
    quantization, processor = CPU[name]
    return Decoder(checkpoint, quantization, processor=processor)


def prompt_of(text: Text) -> NDArray[np.int32]:
    return EVERY_ID.tokenizer.encode(text.prompt).astype(np.int32)


def begin(rows: Rows, slot: int, text: Text) -> None:
    """Let a slot read all of a prompt but its last id, and draw from there."""
    ids = prompt_of(text)
    rows.state[slot] = 0
    rows.read([slot], ids[None, :-1])
    columns = np.arange(EVERY_ID.config.vocabulary)
    rows.set(slot, RowSampling(text.parameters, columns, ids, text.choice, text.logprobs), int(ids[-1]))


def entries(drawn: Drawn, at: int, logprobs: int | None) -> list[Any]:
    """What row `at` of a call drew, step by step: ids, with what it was to report."""
    ids = drawn.ids[at].tolist()
    if logprobs is None:
        return list(ids)
    assert drawn.logprobs is not None
    assert drawn.top_ids is not None
    assert drawn.top_logprobs is not None
    tops = zip(drawn.top_ids[at].tolist(), drawn.top_logprobs[at].tolist(), strict=True)
    return [
        TokenLogprobs(token, logprob, list(zip(top_ids[:logprobs], top_logprobs[:logprobs], strict=True)))
        for token, logprob, (top_ids, top_logprobs) in zip(ids, drawn.logprobs[at].tolist(), tops, strict=True)
    ]


@cache
def alone(name: str, slot: int, text: Text) -> list[Any]:
    """What a slot draws where no other slot is ever touched, one step a call."""
    rows = decoder_of(name).rows(SLOTS)
    begin(rows, slot, text)
    return [entry for _ in range(LONGEST) for entry in entries(rows.draw([slot], 1), 0, text.logprobs)]


DRAWS = st.tuples(st.permutations(range(SLOTS)), st.integers(1, SLOTS), st.integers(1, 8))
BEGINS = st.tuples(st.integers(0, SLOTS - 1), st.integers(0, len(TEXTS) - 1))


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=30)
@given(st.lists(st.integers(0, len(TEXTS) - 1), min_size=SLOTS, max_size=SLOTS), st.lists(DRAWS | BEGINS, max_size=9))
def test_each_slot_writes_what_it_writes_alone(name: str, first: list[int], schedule: list[tuple[Any, ...]]) -> None:
    """Any slots in any order draw any number of steps, and now and then one is handed to another text."""
    rows = decoder_of(name).rows(SLOTS)
    texts = [TEXTS[number] for number in first]
    found: list[list[Any]] = [[] for _ in first]
    for slot, text in enumerate(texts):
        begin(rows, slot, text)
    for action in schedule:
        if len(action) == 2:
            slot, number = action
            texts[slot], found[slot] = TEXTS[number], []
            begin(rows, slot, texts[slot])
            continue
        order, count, steps = action
        slots = [slot for slot in order[:count] if len(found[slot]) + steps <= LONGEST]
        if slots:
            drawn = rows.draw(slots, steps)
            for at, slot in enumerate(slots):
                found[slot] += entries(drawn, at, texts[slot].logprobs)
    for slot, text in enumerate(texts):
        assert found[slot] == alone(name, slot, text)[: len(found[slot])]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", CPU)
def test_rows_draw_what_is_drawn_plainly_and_report_the_same(name: str, cell: Cell) -> None:
    """In int8, and in numpy's own floats; another kernel's floats are rounded in an order of their own."""
    decoder = decoder_of(name, cell)
    quantization, processor = CPU[name]
    rows = decoder.rows(len(TEXTS))
    texts = [text._replace(logprobs=text.logprobs or 0) for text in TEXTS]
    for slot, text in enumerate(texts):
        begin(rows, slot, text)
    drawn = rows.draw(range(len(TEXTS)), LONGEST)
    for slot, text in enumerate(texts):
        chosen: dict[str, Any] = {
            "max_tokens": LONGEST,
            "parameters": text.parameters,
            "choice": text.choice,
            "logprobs": text.logprobs,
        }
        written = [generate(decoder, EVERY_ID.tokenizer, text.prompt, **chosen)]
        if quantization == "int8" or processor == NUMPY:
            written.append(write_plainly(checkpoint_of(cell), quantization, text.prompt, **chosen))
        for pieces in written:
            expected = [entry for piece in pieces for entry in piece.logprobs]
            assert len(expected) == LONGEST
            assert entries(drawn, slot, text.logprobs) == expected


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=15)
@given(st.lists(st.integers(0, 9), max_size=8), st.integers(0, 2**32 - 1))
def test_reading_in_any_slices_is_reading_step_by_step(name: str, sizes: list[int], seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, EVERY_ID.config.vocabulary, (3, 30)).astype(np.int32)
    decoder = decoder_of(name)
    sliced, stepped = decoder.rows(SLOTS), decoder.rows(SLOTS)
    at = 0
    for size in [*sizes, 30]:
        sliced.read([4, 0, 2], ids[:, at : at + size])
        at += size
    for step in range(30):
        stepped.read(np.array([2, 4]), ids[[2, 0], step : step + 1])
        stepped.read([0], ids[1:2, step : step + 1])
    assert np.array(sliced.state).tobytes() == np.array(stepped.state).tobytes()
    assert not np.array(sliced.state)[[1, 3]].any()


@pytest.mark.parametrize("name", EVERY)
def test_slots_that_are_not_in_a_call_keep_their_state(name: str) -> None:
    rows = decoder_of(name).rows(SLOTS)
    for slot in range(SLOTS):
        begin(rows, slot, TEXTS[0])
    before = np.array(rows.state)
    rows.draw([1, 3], 7)
    rows.read([1], np.full((1, 4), 260, np.int32))
    after = np.array(rows.state)
    assert after[[0, 2, 4]].tobytes() == before[[0, 2, 4]].tobytes()
    assert not (after[[1, 3]] == before[[1, 3]]).all(axis=1).any()


@pytest.mark.parametrize("name", EVERY)
def test_a_state_may_be_kept_put_back_and_put_elsewhere(name: str) -> None:
    """What a cache of prompts does: the text goes on from there as if its slot had read everything itself."""
    text = TEXTS[0]
    rows = decoder_of(name).rows(SLOTS)
    begin(rows, 2, text)
    kept = rows.state[2].copy()
    expected = rows.draw([2], 20).ids.tolist()
    ids = prompt_of(text)
    rows.state[0] = kept
    rows.state[1] = rows.state[0]
    rows.state[2] = kept
    for slot in range(3):
        sampling = RowSampling(text.parameters, np.arange(EVERY_ID.config.vocabulary), ids)
        rows.set(slot, sampling, int(ids[-1]))
    assert rows.draw([2], 20).ids.tolist() == expected
    assert rows.draw([1, 0], 20).ids.tolist() == expected * 2


@pytest.mark.parametrize("name", EVERY)
def test_log_probabilities_are_reported_only_where_someone_asked_and_as_many_as_the_most(name: str) -> None:
    rows = decoder_of(name).rows(len(TEXTS))
    for slot, text in enumerate(TEXTS):
        begin(rows, slot, text)
    none = rows.draw([0, 5], 2)
    assert (none.ids.shape, none.logprobs, none.top_ids, none.top_logprobs) == ((2, 2), None, None, None)
    some = rows.draw([0, 2, 6], 3)
    assert some.top_ids is not None
    assert some.top_logprobs is not None
    assert some.top_ids.shape == some.top_logprobs.shape == (3, 3, 3)
    greedy = rows.draw([3], 4)
    assert greedy.logprobs is not None
    assert greedy.top_ids is not None
    assert greedy.top_logprobs is not None
    assert greedy.ids.dtype == greedy.top_ids.dtype == np.int32
    assert greedy.ids.tolist() == greedy.top_ids[:, :, 0].tolist()
    assert greedy.logprobs.tolist() == greedy.top_logprobs[:, :, 0].tolist()
    assert (np.diff(greedy.top_logprobs, axis=2) <= 0).all()
    assert (np.exp(greedy.top_logprobs).sum(axis=2) < 1).all()


@pytest.mark.parametrize("name", EVERY)
def test_a_call_of_no_steps_or_no_places_changes_nothing(name: str) -> None:
    rows = decoder_of(name).rows(SLOTS)
    begin(rows, 1, TEXTS[0])
    before = np.array(rows.state)
    assert rows.draw([1], 0).ids.shape == (1, 0)
    assert rows.draw([], 3).ids.shape == (0, 3)
    rows.read([1], np.zeros((1, 0), np.int32))
    rows.read([], np.zeros((0, 3), np.int32))
    assert np.array(rows.state).tobytes() == before.tobytes()
    assert rows.draw([1], 10).ids[0].tolist() == alone(name, 1, TEXTS[0])[:10]
