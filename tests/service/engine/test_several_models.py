"""Several models on one thread: each text is its own model's to the bit, none waits for a crowd, all memory goes."""

import gc
import weakref
from itertools import pairwise

import pytest

from model.decoding.decoder import Decoder
from model.decoding.rows import Rows
from model.generate import generate
from model.sampling.parameters import SamplingParameters
from model.text.tokenizer import Tokenizer
from service.engine.lanes import MOST_IDLE, Lanes
from service.engine.prefix_cache import PrefixCache
from service.engine.scheduler import Scheduler
from service.engine.sequence import EngineModel, Sequence, SequenceGroup
from service.engine.text_request import TextRequest
from tests.model.small import small_checkpoint


def a_model(seed: int, hidden: int = 24) -> EngineModel:
    checkpoint = small_checkpoint(seed=seed, hidden=hidden)
    return EngineModel(Decoder(checkpoint), checkpoint.tokenizer, bytes([seed]))


def plainly(model: EngineModel, prompt: str, length: int, seed: int) -> str:
    parameters = SamplingParameters(seed=seed)
    pieces = generate(model.decoder, model.tokenizer, prompt, max_tokens=length, parameters=parameters)  # type: ignore[arg-type]
    return "".join(piece.text for piece in pieces)


class Bench:
    """One thread's lanes and a scheduler, turn by turn."""

    def __init__(self, slots: int = 8, cache: int = 1 << 20) -> None:
        self.now = 0.0
        self.cache = PrefixCache(cache)
        self.lanes = Lanes(slots, self.cache, self.clock)
        self.scheduler: Scheduler[SequenceGroup, Sequence] = Scheduler([slots], 1000)
        self.texts: dict[SequenceGroup, list[str]] = {}

    def clock(self) -> float:
        self.now += 1e-4
        return self.now

    def submit(self, model: EngineModel, prompt: str, length: int, seed: int = 0) -> SequenceGroup:
        request = TextRequest(
            prompts=[prompt], parameters=SamplingParameters(seed=seed), max_tokens=length, interval=0.0
        )
        group = SequenceGroup(model, request, cache=self.cache)
        self.texts[group] = []
        self.scheduler.add({group: group.sequences})
        return group

    def turn(self) -> None:
        turn = self.lanes.turn(self.scheduler.changes(0))
        assert not turn.failed
        for row, piece in turn.events:
            self.texts[row.group].append(piece.text)
            if piece.finish_reason is not None:
                self.scheduler.finish(row.group, row)

    def finish(self) -> None:
        while self.lanes.busy or self.scheduler.running:
            self.turn()
        self.turn()  # the last rows leave
        self.lanes.tidy()


def test_each_text_is_its_own_model_s() -> None:
    """Prompts are the same on purpose: a state of the prefix cache must never be another model's."""
    models = [a_model(seed, hidden) for seed, hidden in ((1, 24), (2, 24), (3, 40))]
    bench = Bench()
    for _ in range(2):  # the second time from the cache
        groups = [
            (model, seed, bench.submit(model, "once upon a time", 90, seed)) for seed in (4, 5) for model in models
        ]
        bench.finish()
        for model, seed, group in groups:
            assert "".join(bench.texts[group]) == plainly(model, "once upon a time", 90, seed)
    assert bench.cache.statistics.hits >= len(groups)


def test_a_text_beside_a_crowd_on_another_model_has_every_second_turn() -> None:
    crowded, quiet = a_model(1), a_model(2)
    bench = Bench(slots=32)
    for seed in range(31):
        bench.submit(crowded, "ab", 2000, seed)
    for _ in range(5):
        bench.turn()
    single = bench.submit(quiet, "ab", 400)
    seen = []
    while bench.scheduler.running == 32:
        before = len(bench.texts[single])
        bench.turn()
        seen.append(len(bench.texts[single]) > before)
    assert all(first or second for first, second in pairwise(seen))
    assert "".join(bench.texts[single]) == plainly(quiet, "ab", 400, 0)


def test_a_retired_model_s_memory_goes_with_its_last_text() -> None:
    bench = Bench()
    old, new = a_model(1), a_model(2)
    gone = weakref.ref(old.decoder), weakref.ref(old)
    expected = plainly(old, "ab", 300, 0)
    running = bench.submit(old, "ab", 300)
    bench.turn()
    old.retired = True
    bench.cache.forget(old.owner)
    del old
    other = bench.submit(new, "ab", 900)
    bench.turn()
    assert gone[0]() is not None
    while bench.scheduler.running == 2:
        bench.turn()
    assert "".join(bench.texts.pop(running)) == expected
    del running
    bench.turn()
    gc.collect()  # a group and its texts know each other
    assert [one() for one in gone] == [None, None]
    bench.finish()
    assert "".join(bench.texts[other]) == plainly(new, "ab", 900, 0)


def test_few_models_without_texts_keep_their_rows() -> None:
    bench = Bench()
    models = [a_model(seed) for seed in range(2 * MOST_IDLE)]
    for model in models:
        bench.submit(model, "ab", 5)
        bench.finish()
    assert len(bench.lanes) == MOST_IDLE


def test_a_model_whose_rows_cannot_be_made_fails_alone() -> None:
    class NoRows(Decoder):
        def rows(self, slots: int) -> Rows:  # noqa: ARG002
            raise MemoryError

    checkpoint = small_checkpoint(seed=3)
    broken, whole = EngineModel(NoRows(checkpoint), checkpoint.tokenizer), a_model(1)
    bench = Bench()
    group, other = bench.submit(broken, "ab", 50), bench.submit(whole, "ab", 50)
    turn = bench.lanes.turn(bench.scheduler.changes(0))
    assert turn.failed == [group]
    assert turn.starved == {group}
    bench.scheduler.drop(group)
    bench.finish()
    assert "".join(bench.texts[other])[-10:] == plainly(whole, "ab", 50, 0)[-10:]


@pytest.mark.parametrize("owner", [b"", b"x"])
def test_states_of_an_owner_are_forgotten(owner: bytes) -> None:
    bench = Bench()
    tokenizer: Tokenizer = a_model(1).tokenizer
    model = EngineModel(a_model(1).decoder, tokenizer, owner)
    bench.submit(model, "once upon", 3)
    bench.finish()
    assert bench.cache.statistics.entries == 1
    bench.cache.forget(b"another")
    assert bench.cache.statistics.entries == 1
    bench.cache.forget(owner)
    assert bench.cache.statistics[-2:] == (0, 0)
