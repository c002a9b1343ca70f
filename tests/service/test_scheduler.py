"""The scheduler's promises: first come, first served, nobody lost, nobody twice, never more than there are places."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ParameterError
from service.errors import QueueFull
from service.scheduler import Scheduler


def test_rows_run_in_the_order_they_came() -> None:
    scheduler: Scheduler[str] = Scheduler(max_rows=2, max_waiting=3)
    scheduler.add("ab")
    scheduler.add("cd")
    assert scheduler.admit() == ["a", "b"]
    assert list(scheduler.waiting) == ["c", "d"]
    scheduler.remove("a")
    assert scheduler.admit() == ["b", "c"]


def test_a_full_queue_takes_all_rows_of_a_request_or_none() -> None:
    scheduler: Scheduler[str] = Scheduler(max_rows=1, max_waiting=2)
    scheduler.add("ab")
    with pytest.raises(QueueFull):
        scheduler.add("cd")
    scheduler.add("e")
    assert list(scheduler.waiting) == ["a", "b", "e"]


def test_without_a_queue_free_places_are_still_given() -> None:
    scheduler: Scheduler[str] = Scheduler(max_rows=2, max_waiting=0)
    scheduler.add("ab")
    with pytest.raises(QueueFull):
        scheduler.add("c")


def test_more_rows_than_there_ever_are_places_are_no_matter_of_waiting() -> None:
    scheduler: Scheduler[str] = Scheduler(max_rows=1, max_waiting=1)
    with pytest.raises(ParameterError, match="at once"):
        scheduler.add("abc")


def test_a_row_that_has_left_can_leave_again() -> None:
    scheduler: Scheduler[str] = Scheduler(max_rows=1, max_waiting=9)
    scheduler.add("abc")
    scheduler.admit()
    scheduler.remove("ab")
    scheduler.remove("ab")
    assert scheduler.admit() == ["c"]


def test_a_step_under_way_keeps_its_rows() -> None:
    scheduler: Scheduler[str] = Scheduler(max_rows=3, max_waiting=0)
    scheduler.add("abc")
    rows = scheduler.admit()
    scheduler.remove("b")
    assert rows == ["a", "b", "c"]


@given(st.integers(1, 4), st.integers(0, 4), st.lists(st.tuples(st.sampled_from("+-"), st.integers(1, 4))))
def test_rows_are_never_lost_nor_doubled(max_rows: int, max_waiting: int, verbs: list[tuple[str, int]]) -> None:
    scheduler: Scheduler[int] = Scheduler(max_rows, max_waiting)
    inside: deque[int] = deque()
    for number, (verb, count) in enumerate(verbs):
        if verb == "+":
            rows = range(10 * number, 10 * number + count)
            try:
                scheduler.add(rows)
                inside.extend(rows)
            except (QueueFull, ParameterError):
                assert len(inside) + count > max_rows + max_waiting
        else:
            leaving = list(inside)[:: count + 1]
            scheduler.remove(leaving)
            inside = deque(row for row in inside if row not in leaving)
        running = scheduler.admit()
        assert [*running, *scheduler.waiting] == list(inside)
        assert len(running) == min(max_rows, len(inside))
