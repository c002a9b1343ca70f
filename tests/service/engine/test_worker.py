"""What a worker hands over is the plain reference's, to the bit, whichever rows come and go beside it."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.decoding.decoder import Decoder
from model.decoding.rows import Rows, Scored
from model.generate import Piece as PlainPiece
from model.generate import generate
from model.sampling.parameters import SamplingParameters
from service.engine.lanes import Lanes
from service.engine.output import Logprobs, Piece, join_logprobs
from service.engine.prefix_cache import PrefixCache
from service.engine.scheduler import Scheduler
from service.engine.sequence import EngineModel, SequenceGroup
from service.engine.text_request import TextRequest
from tests.service.serving import Reference


@dataclass(frozen=True)
class Wish:
    """A request as a test asks for it."""

    prompt: str = "ab"
    max_tokens: int = 20
    seed: int = 0
    n: int = 1
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    interval: float | None = None
    repetition_penalty: float = 1.0
    caller: str = ""

    @property
    def parameters(self) -> SamplingParameters:
        return SamplingParameters(seed=self.seed, repetition_penalty=self.repetition_penalty)


class Bench:
    """Workers and a scheduler without threads; time is what a test says it is."""

    def __init__(self, decoder: Decoder, reference: Reference, slots: Sequence[int] = (4,), cache: int = 0) -> None:
        timed = copy(decoder)
        timed.computes_here = False  # what a call takes is what the clock says
        self.model = EngineModel(timed, reference.checkpoint.tokenizer)
        self.cache = PrefixCache(cache)
        self.now, self.tick = 0.0, 1e-4
        self.scheduler: Scheduler[SequenceGroup, Any] = Scheduler(slots, 1000)
        self.workers = [Lanes(count, self.cache, self.clock) for count in slots]
        self.pieces: dict[SequenceGroup, list[list[Piece]]] = {}

    def clock(self) -> float:
        self.now += self.tick
        return self.now

    def submit(self, wish: Wish) -> SequenceGroup:
        group = SequenceGroup(
            self.model,
            TextRequest(
                prompts=[wish.prompt],
                parameters=wish.parameters,
                max_tokens=wish.max_tokens,
                stop=wish.stop,
                n=wish.n,
                interval=wish.interval,
                logprobs=wish.logprobs,
            ),
            cache=self.cache,
        )
        self.pieces[group] = [[] for _ in group.sequences]
        self.scheduler.add({group: group.sequences}, caller=wish.caller)
        return group

    def turn(self) -> None:
        """One turn of every worker."""
        for index, worker in enumerate(self.workers):
            turn = worker.turn(self.scheduler.changes(index))
            assert not turn.failed
            for group in turn.read:
                self.scheduler.fork(group)
            for row, piece in turn.events:
                self.pieces[row.group][row.choice].append(piece)
                if piece.finish_reason is not None:
                    self.scheduler.finish(row.group, row)

    def finish(self) -> None:
        while self.scheduler.running or self.scheduler.waiting:
            self.turn()

    def texts(self, group: SequenceGroup) -> list[tuple[str, str | None, int]]:
        """What came of each text, why it ended, and how many ids were drawn."""
        return [
            ("".join(piece.text for piece in pieces), pieces[-1].finish_reason, pieces[-1].tokens)
            for pieces in self.pieces[group]
        ]


def plain(reference: Reference, decoder: Decoder, wish: Wish, choice: int = 0) -> list[PlainPiece]:
    return list(
        generate(
            decoder,
            reference.checkpoint.tokenizer,
            wish.prompt,
            max_tokens=wish.max_tokens,
            parameters=wish.parameters,
            stop=wish.stop,
            choice=choice,
            logprobs=wish.logprobs,
        )
    )


def expected(reference: Reference, wish: Wish, decoder: Decoder | None = None) -> list[tuple[str, str | None, int]]:
    texts = [plain(reference, decoder or reference.decoder, wish, choice) for choice in range(wish.n)]
    return [("".join(piece.text for piece in one), one[-1].finish_reason, one[-1].tokens) for one in texts]


WISHES = st.builds(
    Wish,
    prompt=st.text("ab é", max_size=12),
    max_tokens=st.integers(1, 80),
    seed=st.integers(0, 3),
    n=st.integers(1, 3),
    stop=st.lists(st.text("ab é", min_size=1, max_size=2), max_size=2).map(tuple),
    logprobs=st.sampled_from([None, None, 0, 2]),
    interval=st.sampled_from([None, 0.0, 0.001, 1e9]),
    repetition_penalty=st.sampled_from([1.0, 1.25]),
    caller=st.sampled_from("abc"),
)


@given(
    st.lists(st.tuples(WISHES, st.integers(0, 12)), min_size=1, max_size=8),
    st.lists(st.integers(1, 4), min_size=1, max_size=2),
    st.sampled_from([0, 1 << 20]),
    st.data(),
)
def test_rows_that_come_and_go_do_not_touch_each_other(
    reference: Reference, arrivals: list[tuple[Wish, int]], slots: list[int], cache: int, data: st.DataObject
) -> None:
    """Each request comes in a turn of its own and leaves when it is done, or is thrown out at any time."""
    bench = Bench(reference.decoder, reference, slots, cache)
    came: list[tuple[Wish, SequenceGroup]] = []
    thrown_out = []
    for turn in range(13):
        came += [(wish, bench.submit(wish)) for wish, start in arrivals if start == turn]
        if came and data.draw(st.integers(0, 9)) == 0:
            _, group = data.draw(st.sampled_from(came))
            thrown_out.append(group)
            bench.scheduler.drop(group)
        bench.turn()
    bench.finish()
    for wish, group in came:
        if group not in thrown_out:
            assert bench.texts(group) == expected(reference, wish), wish


def test_fp32_is_alike_in_a_crowd(reference: Reference) -> None:
    decoder = Decoder(reference.checkpoint, "fp32")
    bench = Bench(decoder, reference, [5, 3])
    wishes = [Wish(prompt="ab" * seed, seed=seed, n=1 + seed % 3) for seed in range(12)]
    requests = [bench.submit(wish) for wish in wishes]
    bench.finish()
    for wish, group in zip(wishes, requests, strict=True):
        assert bench.texts(group) == expected(reference, wish, decoder)


def told(reference: Reference, wish: Wish, choice: int) -> Logprobs:
    """What the reference reports of one text."""
    every = [one for piece in plain(reference, reference.decoder, wish, choice) for one in piece.logprobs]
    return Logprobs(
        np.array([one.token for one in every], np.int32),
        np.array([one.logprob for one in every], np.float32),
        np.array([[token for token, _ in one.top] for one in every], np.int32).reshape(len(every), -1),
        np.array([[logprob for _, logprob in one.top] for one in every], np.float32).reshape(len(every), -1),
    )


@pytest.mark.parametrize("interval", [None, 0.0, 0.002, 1e9])
@pytest.mark.parametrize("crowd", [0, 7])
def test_log_probabilities_do_not_depend_on_the_load(interval: float | None, crowd: int, reference: Reference) -> None:
    """Bit for bit, of every id that was drawn, those of a stop string included, and of no other."""
    wishes = [
        Wish("once", 1200, seed=1, n=2, logprobs=5, interval=interval),
        Wish("once", 700, seed=2, logprobs=0, stop=("ab", "q"), interval=interval),
        Wish("é明", 90, seed=3, logprobs=1000, repetition_penalty=1.3, interval=interval),
    ]
    bench = Bench(reference.decoder, reference, [6, 6])
    for seed in range(crowd):
        bench.submit(Wish("x" * seed, 30 * seed + 1, seed=seed, logprobs=seed % 3 or None))
    requests = [bench.submit(wish) for wish in wishes]
    bench.finish()
    for wish, group in zip(wishes, requests, strict=True):
        for choice, pieces in enumerate(bench.pieces[group]):
            parts = [piece.logprobs for piece in pieces if piece.logprobs is not None]
            assert sum(len(part.ids) for part in parts) == pieces[-1].tokens
            for own, plainly in zip(join_logprobs(parts), told(reference, wish, choice), strict=True):
                assert own.dtype == plainly.dtype
                assert np.array_equal(own, plainly)


def test_nobody_else_is_told_log_probabilities(reference: Reference) -> None:
    bench = Bench(reference.decoder, reference)
    silent, asked = bench.submit(Wish(interval=0.0)), bench.submit(Wish(interval=0.0, logprobs=1))
    bench.finish()
    assert all(piece.logprobs is None for piece in bench.pieces[silent][0])
    assert all(piece.logprobs is not None for piece in bench.pieces[asked][0])


def test_a_stream_is_handed_over_at_once_and_then_at_its_interval(reference: Reference) -> None:
    bench = Bench(reference.decoder, reference)
    wishes = [Wish(max_tokens=3000, interval=interval) for interval in (None, 1e9, 0.001)]
    whole, patient, eager = (bench.submit(wish) for wish in wishes)
    bench.turn()
    assert [len(bench.pieces[group][0]) for group in (whole, patient, eager)] == [0, 1, 1]
    bench.finish()
    assert [len(bench.pieces[group][0]) for group in (whole, patient)] == [1, 2]
    assert 3 < len(bench.pieces[eager][0]) < 60
    assert all(bench.texts(group) == expected(reference, wishes[0]) for group in (whole, patient, eager))


@pytest.mark.parametrize("length", [1, 2, 5, 30])
def test_a_stop_string_ends_a_text_in_the_turn_it_comes(length: int, reference: Reference) -> None:
    """Also where nothing else is due: a slot is not kept for a text that has ended."""
    [(free, _, _)] = expected(reference, Wish("x", 100, seed=5))
    stop = free[60 : 60 + length]
    for interval in (None, 1e9):
        bench = Bench(reference.decoder, reference)
        bench.tick = 1.0  # so slow that each turn draws once
        wish = Wish("x", 1000, seed=5, stop=(stop, "月" * 9), interval=interval)
        group, other = bench.submit(wish), bench.submit(Wish(max_tokens=1000))
        turns = 0
        while bench.scheduler.running == 2:
            bench.turn()
            turns += 1
        [(_, reason, tokens)] = bench.texts(group)
        assert (reason, turns) == ("stop", tokens)
        assert bench.texts(group) == expected(reference, wish)
        assert not bench.pieces[other][0]


def test_a_prompt_is_read_once_for_all_its_texts(reference: Reference) -> None:
    reads = []

    class Counting(Decoder):
        def rows(self, slots: int) -> Rows:
            rows = super().rows(slots)
            read = rows.read

            def counted(slots: Any, ids: Any) -> None:
                reads.append(ids.size)
                read(slots, ids)

            rows.read = counted  # type: ignore[method-assign]
            return rows

    bench = Bench(Counting(reference.checkpoint), reference, [9])
    group = bench.submit(Wish("abc" * 100, n=8))
    bench.finish()
    assert sum(reads) == 299
    assert bench.texts(group) == expected(reference, Wish("abc" * 100, n=8))


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 258, 700, 5000])
def test_a_cached_prompt_gives_the_same_bytes(length: int, reference: Reference) -> None:
    """Whole, and as the beginning of a longer one; also states in the middle of a long prompt are the true ones."""
    bench = Bench(reference.decoder, reference, cache=1 << 22)
    text = "abcd efg, " * (length // 10 + 1)
    first = Wish(text[:length], seed=1)
    assert_same(bench, reference, first, cached=0)
    assert_same(bench, reference, Wish(text[:length], seed=2, n=3), cached=length - 1)
    assert_same(bench, reference, Wish(text[:length] + "zz", seed=3), cached=length - 1)
    middle = max((mark for mark in range(256, length - 20, 256)), default=None)
    if middle is not None:
        assert_same(bench, reference, Wish(text[: middle + 10] + "q", seed=4), cached=middle)


def assert_same(bench: Bench, reference: Reference, wish: Wish, cached: int) -> None:
    group = bench.submit(wish)
    bench.finish()
    assert group.cached == cached
    assert bench.texts(group) == expected(reference, wish)


class PricedRows:
    """Rows that take so long, by a bench's clock: a part for each step, and one for each row in it."""

    def __init__(self, rows: Rows, bench: "Bench") -> None:
        self._rows, self._bench = rows, bench
        self.set = rows.set

    @property
    def state(self) -> Any:
        return self._rows.state

    def read(self, slots: Any, ids: Any) -> None:
        self._take(*ids.shape)
        self._rows.read(slots, ids)

    def draw(self, slots: Any, steps: int) -> Any:
        self._take(len(slots), steps)
        return self._rows.draw(slots, steps)

    def score(self, *_: Any) -> Scored:
        raise NotImplementedError

    def _take(self, rows: int, steps: int) -> None:
        self._bench.now += steps * (2e-5 + 1.4e-5 * rows)


class PricedBench(Bench):
    """A bench whose clock goes as long as calls of a real model take."""

    def __init__(self, reference: Reference, slots: int) -> None:
        super().__init__(reference.decoder, reference, [slots])
        self.tick = 1e-6
        rows = reference.decoder.rows
        decoder = Decoder(reference.checkpoint)
        decoder.computes_here = False  # what a call takes is what the clock says
        decoder.rows = lambda slots: PricedRows(rows(slots), self)  # type: ignore[method-assign]
        self.model = EngineModel(decoder, reference.checkpoint.tokenizer)


@pytest.mark.parametrize(
    "greedy",
    [Wish(max_tokens=300, n=64, interval=0.0, caller="greedy"), Wish("ab" * 90_000, caller="greedy", seed=1)],
    ids=["many texts", "long prompts"],
)
def test_one_text_keeps_most_of_its_pace_beside_a_greedy_caller(greedy: Wish, reference: Reference) -> None:
    """And what it takes from the others they have afterwards: all texts are the reference's."""
    wish = Wish("the", 3000, seed=2, interval=0.01, caller="honest")
    seconds = []
    for crowd in (0, 16 if greedy.n == 1 else 1):
        bench = PricedBench(reference, 80)
        crowded = [bench.submit(greedy) for _ in range(crowd)]
        for _ in range(5 if crowd else 0):
            bench.turn()
        began = bench.now
        single = bench.submit(wish)
        while not (pieces := bench.pieces[single][0]) or pieces[-1].finish_reason is None:
            bench.turn()
        seconds.append(bench.now - began)
        assert bench.texts(single) == expected(reference, wish)
        if greedy.n > 1 and crowd:
            assert all(pieces for pieces in bench.pieces[crowded[0]])
            bench.finish()
            assert bench.texts(crowded[0]) == expected(reference, greedy)
    alone, beside = seconds
    assert alone / beside > 0.6


def test_a_text_that_waits_lives_through_a_failed_call_of_another(reference: Reference) -> None:
    bench = PricedBench(reference, 80)
    greedy = Wish(max_tokens=600, n=32, caller="greedy")
    waiting = bench.submit(greedy)
    failing = bench.submit(Wish(max_tokens=5000, caller="honest"))
    worker: Any = bench.workers[0]
    for _ in range(20):
        bench.turn()
    while "greedy" not in worker._shares.waiting:
        bench.turn()
    rows = next(iter(worker._workers.values()))._rows
    draw = rows.draw
    rows.draw = lambda *_: 1 / 0
    turn = worker.turn(bench.scheduler.changes(0))
    rows.draw = draw
    assert turn.failed == [failing]
    bench.scheduler.drop(failing)
    bench.finish()
    assert bench.texts(waiting) == expected(reference, greedy)


class Starving:
    """A stream of text that there is no memory for."""

    def feed(self, _: list[int]) -> str:
        raise MemoryError


def test_lack_of_memory_for_one_text_ends_its_request_and_no_other(reference: Reference) -> None:
    wish = Wish(max_tokens=300, seed=1, logprobs=2, interval=0.0)
    bench = Bench(reference.decoder, reference)
    hungry, other = bench.submit(Wish(max_tokens=300, n=2, interval=0.0)), bench.submit(wish)
    while not all(bench.pieces[hungry]):
        bench.turn()
    row: Any = hungry.sequences[1]
    row.stream = Starving()
    turn = bench.workers[0].turn(bench.scheduler.changes(0))
    assert (turn.failed, turn.starved) == ([hungry], {hungry})
    bench.pieces[other][0] += [event.piece for event in turn.events if event.row.group is other]
    bench.scheduler.drop(hungry)
    bench.finish()
    assert bench.texts(other) == expected(reference, wish)
