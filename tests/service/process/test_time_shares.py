"""Callers have equal parts of a thread's time by their weights, whatever rows they have and whenever they come."""

from collections import Counter, defaultdict
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.process.time_shares import FALL, SLACK, TimeShares

FIXED, EACH = 2e-5, 1.4e-5  # seconds of a step, and of each of its rows


class Bench:
    """Calls in which the rows of all take part who do not wait; how long each caller has had."""

    def __init__(self, **rows: int) -> None:
        self.shares = TimeShares()
        self.rows: dict[Hashable, int] = {}
        self.seconds: defaultdict[Hashable, float] = defaultdict(float)
        self.waited: Counter[Hashable] = Counter()
        for caller, count in rows.items():
            self.enter(caller, count)

    def enter(self, caller: str, count: int) -> None:
        for _ in range(count):
            self.shares.enter(caller, 1)
        self.rows[caller] = count

    def leave(self, caller: str) -> None:
        for _ in range(self.rows.pop(caller)):
            self.shares.leave(caller, 1)

    def call(self, times: int = 1) -> None:
        for _ in range(times):
            waiting = self.shares.waiting
            self.waited.update(waiting)
            rows = {caller: count for caller, count in self.rows.items() if caller not in waiting}
            count = sum(rows.values())
            step = FIXED + EACH * count
            seconds = step * max(1, int(0.001 / step))
            if self.shares.shared:
                self.shares.charge(rows, seconds)
            for caller, own in rows.items():
                self.seconds[caller] += seconds * own / count


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 128), min_size=1))
def test_all_have_equal_time_by_weight_and_somebody_always_goes_on(rows: dict[str, int]) -> None:
    bench = Bench(**rows)
    calls = 400
    bench.call(calls)
    had = [bench.seconds[caller] * count**FALL for caller, count in rows.items()]
    largest = sum(rows.values()) ** FALL * max(0.001, FIXED + EACH * sum(rows.values()))
    assert max(had) - min(had) <= SLACK + largest
    assert all(bench.waited[caller] < calls for caller in rows)


@pytest.mark.parametrize("rows", [1, 7, 128])
def test_equal_callers_never_wait(rows: int) -> None:
    """Whenever they come: those who are there have no advance."""
    bench = Bench(a=rows)
    bench.call(50)
    for at, caller in enumerate("bcd"):
        bench.enter(caller, rows)
        bench.call(50 + at)
    assert not bench.waited


def test_one_text_keeps_most_of_its_pace_beside_a_hundred_and_the_hundred_go_on() -> None:
    bench = Bench(single=1, greedy=128)
    bench.call(2_000)
    assert 0.9 < bench.seconds["single"] / sum(bench.seconds.values()) < 0.95


def test_nobody_gains_by_leaving_and_coming_anew() -> None:
    bench = Bench(single=1)
    for _ in range(2_000):
        bench.enter("greedy", 128)
        bench.call()
        bench.leave("greedy")
    assert bench.seconds["single"] / sum(bench.seconds.values()) > 0.8


def test_what_is_kept_of_those_who_have_gone_is_bounded() -> None:
    bench = Bench(single=1)
    for number in range(2_000):
        bench.enter(str(number), 16)
        bench.call()
        bench.leave(str(number))
    assert len(bench.shares._ahead) < 100
    bench.leave("single")
    assert not bench.shares.shared
