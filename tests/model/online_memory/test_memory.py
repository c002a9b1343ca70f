"""The online memory is the same compiled and in Python, however a text is cut, and never more than it may be."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.online_memory.memory import HEADER, MOST_CONTEXTS, OnlineMemory, memory_bytes
from model.online_memory.scoring import score_with
from model.online_memory.weights import NAME, WEIGHTS, MemoryWeights
from tests.model.small import small_checkpoint

CHECKPOINT = small_checkpoint()
DECODER = Decoder(CHECKPOINT)
TEXT = ("the cat sat on the mat, the dog sat on the cat. " * 6 + "月 a quick brown fox 😀 é ") * 3
IDS = CHECKPOINT.tokenizer.encode(TEXT).astype(np.int32)


def distributions(ids: NDArray[np.int32], decoder: Decoder = DECODER) -> tuple[Array, NDArray[np.float64]]:
    scored = decoder.rows(1).score([0], ids[None, :-1], ids[None, 1:], weights=True)
    assert scored.weights is not None
    assert scored.wholes is not None
    return scored.weights[0], scored.wholes[0]


OF_TEXT = distributions(IDS)


def score(memory: OnlineMemory, start: int = 0, end: int = len(IDS) - 1) -> Array:
    weights, wholes = OF_TEXT
    return memory.score(IDS[start:end], IDS[start + 1 : end + 1], weights[start:end], wholes[start:end])[0]


@pytest.mark.parametrize("contexts", [MOST_CONTEXTS, 100])
def test_compiled_and_in_python_it_gives_the_same_bits(contexts: int) -> None:
    compiled, python = (OnlineMemory(MemoryWeights(), contexts=contexts, compiled=one) for one in (True, False))
    assert score(compiled).tolist() == score(python).tolist()
    assert compiled.weights == python.weights


@pytest.mark.parametrize("compiled", [True, False])
def test_a_text_in_pieces_scores_as_the_whole_and_a_copy_goes_on_alone(compiled: bool) -> None:
    whole = score(OnlineMemory(MemoryWeights(), compiled=compiled))
    memory = OnlineMemory(MemoryWeights(), compiled=compiled)
    first = score(memory, 0, 7)
    copy = memory.copy()
    assert [*first, *score(memory, 7, 200), *score(memory, 200)] == whole.tolist()
    assert score(copy, 7).tolist() == whole[7:].tolist()


@pytest.mark.parametrize("top", [None, 2])
@pytest.mark.parametrize("compiled", [True, False])
def test_side_by_side_each_text_has_its_own_memory(compiled: bool, top: int | None) -> None:
    memories = [OnlineMemory(MemoryWeights(), compiled=compiled), None, OnlineMemory(MemoryWeights())]
    several = np.stack([IDS, IDS, IDS[::-1]])
    found = score_with(DECODER.rows(3), memories, range(3), several[:, :-1], several[:, 1:], top)
    plain = DECODER.rows(1).score([0], IDS[None, :-1], IDS[None, 1:])
    assert found.logprobs[0].tolist() == score(OnlineMemory(MemoryWeights())).tolist()
    assert found.logprobs[1].tolist() == plain.logprobs[0].tolist()
    alone = score_with(DECODER.rows(1), [OnlineMemory(MemoryWeights())], [0], several[2:, :-1], several[2:, 1:], top)
    assert found.logprobs[2].tolist() == alone.logprobs[0].tolist()
    assert found.weights is None


def test_room_for_the_text_alone_remembers_as_much_as_any() -> None:
    assert score(OnlineMemory(MemoryWeights(), len(IDS))).tolist() == score(OnlineMemory(MemoryWeights())).tolist()


def test_its_distribution_adds_up_to_one_and_holds_what_came() -> None:
    weights, wholes = OF_TEXT
    for compiled in (True, False):
        memory = OnlineMemory(MemoryWeights(), compiled=compiled)
        logprobs, every = memory.score(IDS[:-1], IDS[1:], weights, wholes, every=True)
        assert every is not None
        assert np.exp(every.astype(np.float64)).sum(axis=1) == pytest.approx(1, abs=1e-6)
        assert every[np.arange(len(IDS) - 1), IDS[1:]].tolist() == logprobs.tolist()


def test_what_came_before_is_expected_again_and_what_was_forgotten_is_not() -> None:
    weights, wholes = OF_TEXT
    alone = np.log(weights[np.arange(len(IDS) - 1), IDS[1:]] / wholes)
    again = slice(60, 280)  # a sentence for the second to the sixth time
    assert score(OnlineMemory(MemoryWeights()))[again].mean() > alone[again].mean() + 1
    assert score(OnlineMemory(MemoryWeights(), contexts=16))[again].mean() < alone[again].mean() + 1


@pytest.mark.parametrize("processor", ["numpy", None])
def test_the_weights_of_a_step_are_those_of_its_scores(processor: str | None) -> None:
    decoder = Decoder(CHECKPOINT, processor=processor)
    scored = decoder.rows(2).score([1], IDS[None, :40], IDS[None, 1:41], 3, weights=True)
    plain = decoder.rows(2).score([1], IDS[None, :40], IDS[None, 1:41], 3)
    assert plain.weights is None
    assert scored.logprobs.tolist() == plain.logprobs.tolist()
    assert scored.weights is not None
    assert scored.wholes is not None
    p = scored.weights[0, np.arange(40), IDS[1:41]] / scored.wholes[0]
    assert np.log(p) == pytest.approx(scored.logprobs[0], abs=1e-5)
    assert scored.weights[0].tolist() == OF_TEXT[0][:40].tolist()
    assert scored.wholes[0].tolist() == OF_TEXT[1][:40].tolist()


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("wrong", [-1, CHECKPOINT.tokenizer.size])
def test_an_id_that_is_none_is_refused_and_nothing_remembered(wrong: int, compiled: bool) -> None:
    memory = OnlineMemory(MemoryWeights(), compiled=compiled)
    weights, wholes = OF_TEXT
    with pytest.raises(IndexError, match="not one of the network's"):
        memory.score(IDS[:3], np.array([1, 2, wrong], np.int32), weights[:3], wholes[:3])
    assert score(memory).tolist() == score(OnlineMemory(MemoryWeights())).tolist()


def test_it_is_counted_before_it_is_made_and_does_not_grow() -> None:
    assert memory_bytes(1) < 5_000 + HEADER.itemsize
    assert memory_bytes(10**6) == memory_bytes(10**9) < 4_000_000


def test_weights_are_kept_in_json_and_others_are_none() -> None:
    weights = MemoryWeights((0.25,) * WEIGHTS, "a test")
    assert MemoryWeights.of({NAME: weights.to_json()}) == weights
    wrong: list[dict[str, Any]] = [
        {},
        {NAME: {**weights.to_json(), "orders": [1]}},
        {NAME: {**weights.to_json(), "weights": [0.5]}},
        {NAME: {**weights.to_json(), "weights": [2.0] * WEIGHTS}},
        {NAME: {**weights.to_json(), "weights": [float("nan")] * WEIGHTS}},
    ]
    for training in wrong:
        assert MemoryWeights.of(training) is None
        with pytest.raises(ParameterError, match="--write-memory"):
            MemoryWeights.required(training, items=False)


@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_expected_is_what_the_score_of_the_next_id_has_and_learns_nothing(compiled: bool) -> None:
    weights, wholes = OF_TEXT
    memory, other = (OnlineMemory(MemoryWeights(), compiled=compiled) for _ in range(2))
    for at in range(120):
        asked = [memory.expect(int(IDS[at]), weights[at], float(wholes[at])).tolist() for _ in range(2)]
        one = slice(at, at + 1)
        _, every = memory.score(IDS[one], IDS[at + 1 : at + 2], weights[one], wholes[one], every=True)
        assert every is not None
        assert asked == [every[0].tolist()] * 2
    assert score(memory, 120).tolist() == score(other)[120:].tolist()
    with pytest.raises(IndexError, match="not one of the network's"):
        memory.expect(CHECKPOINT.tokenizer.size, weights[0], float(wholes[0]))
