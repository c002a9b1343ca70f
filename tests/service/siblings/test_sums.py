"""Sums that processes share are those of one process, also when several change them at once, and when one dies."""

import os
import signal
import time
import warnings
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.siblings.sums import WAYS, OwnSums, SharedSums

STEPS = st.lists(st.tuples(st.sampled_from(["a", "b", b"c", ""]), st.integers(-5, 20)), max_size=80)


@given(STEPS)
def test_sums_of_several_processes_are_those_of_one(steps: list[tuple[str | bytes, int]]) -> None:
    shared, own = SharedSums(64, 3, time.monotonic), OwnSums()
    for at, (name, number) in enumerate(steps):
        shared.own = at % 3
        before = own.of(name)
        if number < 0 and shared.of(name) + number < 0:
            continue
        if number < 0:  # a process takes off only what it has counted itself
            shared.own = max(range(3), key=lambda one: _counted(shared, name, one))
            number = -min(-number, _counted(shared, name, shared.own))
        shared.add(name, number)
        own.add(name, number)
        assert shared.of(name) == own.of(name) == before + number
        assert shared.whole == own.whole


def _counted(sums: SharedSums, name: str | bytes, process: int) -> int:
    before, sums.own = sums.own, process
    try:
        at = sums._find(*sums._key(name))
        return 0 if at < 0 else sums._words[at + 3 + process]
    finally:
        sums.own = before


def in_processes(count: int, work: Callable[[int], None]) -> list[int]:
    """Have some processes do some work at once; their statuses."""
    pids = []
    for number in range(count):
        with warnings.catch_warnings():  # of threads of other tests, which the work does not touch
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if not pid:
            try:
                work(number)
            except BaseException:
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    return [os.waitpid(pid, 0)[1] for pid in pids]


def test_processes_that_look_and_add_under_the_lock_never_exceed_a_limit() -> None:
    sums, tries, most = SharedSums(64, 4, time.monotonic), 2_000, 3_001

    def work(number: int) -> None:
        sums.own = number
        for _ in range(tries):
            with sums.lock:
                if sums.of("key") < most:
                    sums.add("key", 1)

    assert in_processes(4, work) == [0] * 4
    assert sums.of("key") == sums.whole == most


def test_a_process_that_dies_with_the_lock_gives_it_back_and_what_it_held_is_taken_off() -> None:
    sums = SharedSums(64, 2, time.monotonic)
    sums.add("a", 5)

    def work(_: int) -> None:
        sums.own = 1
        sums.add("a", 7)
        with sums.lock:
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_processes(1, work) == [signal.SIGKILL]
    began = time.monotonic()
    with sums.lock:
        assert sums.lock._held
    assert time.monotonic() - began < 5
    assert (sums.of("a"), sums.whole) == (12, 12)
    sums.forget(1)
    assert (sums.of("a"), sums.whole) == (5, 5)


def test_names_beyond_the_table_count_in_the_whole_and_take_nobodys_place() -> None:
    sums = SharedSums(WAYS, 1, time.monotonic)  # all names share one bucket
    for number in range(WAYS + 3):
        sums.add(f"name-{number}", 1)
    assert sums.whole == WAYS + 3
    assert [sums.of(f"name-{number}") for number in range(WAYS + 3)] == [1] * WAYS + [0] * 3
    sums.add("name-9", -1)
    sums.add("name-0", -1)
    assert sums.whole == WAYS + 1
    sums.add("other", 4)
    assert (sums.of("other"), sums.of("name-0"), sums.of("name-1")) == (4, 0, 1)


@pytest.mark.parametrize("open_requests", [0, 1])
def test_a_stamp_that_is_due_is_kept_while_others_may_be_forgotten(open_requests: int) -> None:
    now = [100.0]
    sums = SharedSums(WAYS, 1, lambda: now[0])
    sums.set_stamp("late", 200.0)
    sums.add("late", open_requests)
    for number in range(5 * WAYS):
        sums.set_stamp(f"early-{number}", 99.0)
    assert sums.stamp("late") == 200.0
    now[0] = 201.0
    for number in range(5 * WAYS):
        sums.set_stamp(f"more-{number}", 300.0 + number)
    assert sums.of("late") == open_requests
    assert sums.stamp("late") == (200.0 if open_requests else 0.0)
