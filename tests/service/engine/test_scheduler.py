"""The scheduler's promises: callers in turn, each first come, first served, nobody lost, never two in one slot."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ParameterError
from service.engine.scheduler import Row, Scheduler
from service.errors import QueueFull


class Text(Row):
    """A row with a name."""

    def __init__(self, name: str, width: int = 1) -> None:
        super().__init__(width)
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Desk:
    """A scheduler whose workers keep a list of who is in their slots, as threads do."""

    def __init__(self, slots: Sequence[int], max_waiting: int, timeout: float = 100.0, spare: int = 0) -> None:
        self.scheduler: Scheduler[str, Text] = Scheduler(slots, max_waiting, spare)
        self.timeout = timeout
        self.seats: list[dict[int, Text]] = [{} for _ in slots]
        self.rows: dict[str, list[Text]] = {}
        self.slots = slots

    def add(self, name: str, texts: int = 1, now: float = 0.0, caller: str | None = None, width: int = 1) -> None:
        rows = [Text(f"{name}{at}", width) for at in range(texts)]
        self.scheduler.add({name: rows}, now + self.timeout, caller)
        self.rows[name] = rows

    def turn(self) -> list[str]:
        """Let every worker take up its changes; who has a slot then, in the order of workers and slots."""
        for worker, seats in enumerate(self.seats):
            leaving, joining = self.scheduler.changes(worker)
            for row in leaving:
                for slot in row.slots:
                    assert seats.pop(slot) is row
            for row in joining:
                assert row.worker == worker
                assert (row.slot, len(row.slots)) == (row.slots[0], row.width)
                for slot in row.slots:
                    assert 0 <= slot < self.slots[worker]
                    assert slot not in seats, "two rows in one slot"
                    seats[slot] = row
        return [repr(seats[slot]) for seats in self.seats for slot in sorted(seats)]

    def counts(self) -> tuple[int, int]:
        return self.scheduler.running, self.scheduler.waiting


def test_rows_run_in_the_order_they_came() -> None:
    desk = Desk([2], 3)
    for name in "abcd":
        desk.add(name)
    assert desk.turn() == ["a0", "b0"]
    desk.scheduler.finish("a", desk.rows["a"][0])
    assert desk.turn() == ["c0", "b0"]
    assert desk.counts() == (2, 1)


def test_a_request_reads_once_and_its_other_texts_come_before_everyone_later() -> None:
    desk = Desk([2], 9)
    for name, texts in (("a", 3), ("b", 1), ("c", 1)):
        desk.add(name, texts)
    assert desk.turn() == ["a0", "b0"]
    assert desk.counts() == (2, 3)
    desk.scheduler.fork("a")
    desk.scheduler.finish("b", desk.rows["b"][0])
    assert desk.turn() == ["a0", "a1"]
    desk.scheduler.finish("a", desk.rows["a"][0])
    assert desk.turn() == ["a2", "a1"]
    desk.scheduler.drop("a")
    assert desk.turn() == ["c0"]


def test_a_wide_row_waits_for_room_on_one_thread_and_is_not_overtaken() -> None:
    desk = Desk([3, 3], 9)
    for name in "abcd":
        desk.add(name)
    desk.add("e", width=3)
    desk.add("f")
    assert sorted(desk.turn()) == ["a0", "b0", "c0", "d0"]  # two are free on each thread
    assert desk.counts() == (4, 4)
    for name in "ac":  # both of one thread
        desk.scheduler.finish(name, desk.rows[name][0])
    assert sorted(desk.turn()) == ["b0", "d0", "e0", "e0", "e0", "f0"]
    desk.scheduler.drop("e")
    desk.add("g", width=2)
    assert sorted(desk.turn()) == ["b0", "d0", "f0", "g0", "g0"]
    assert desk.counts() == (5, 0)
    with pytest.raises(ParameterError, match="4 beams"):
        desk.add("h", width=4)


def test_a_full_queue_takes_all_texts_of_a_request_or_none() -> None:
    desk = Desk([1], 2)
    desk.add("a", 2)
    with pytest.raises(QueueFull):
        desk.add("b", 2)
    desk.add("c")
    assert desk.counts() == (1, 2)


def test_without_a_queue_free_places_are_still_given() -> None:
    desk = Desk([2], 0)
    desk.add("a", 2)
    with pytest.raises(QueueFull):
        desk.add("b")


def test_more_texts_than_there_ever_are_places_are_no_matter_of_waiting() -> None:
    with pytest.raises(ParameterError, match="at once"):
        Desk([1], 1).add("a", 3)


def test_who_has_left_can_leave_again() -> None:
    desk = Desk([1], 9)
    desk.add("a", 2)
    desk.turn()
    for _ in range(2):
        desk.scheduler.drop("a")
        desk.scheduler.finish("a", desk.rows["a"][0])
        desk.scheduler.fork("a")
    assert desk.turn() == []
    assert desk.counts() == (0, 0)


def test_a_slot_is_given_on_in_the_same_change() -> None:
    """Also when the text that was to have it is released before it starts."""
    desk = Desk([1], 9)
    desk.add("a")
    desk.turn()
    desk.add("b")
    desk.add("c")
    desk.scheduler.drop("a")
    desk.scheduler.drop("b")
    assert desk.turn() == ["c0"]


def test_lanes_are_filled_evenly() -> None:
    desk = Desk([3, 2], 9)
    for name in "abcdef":
        desk.add(name)
    desk.turn()
    assert [len(seats) for seats in desk.seats] == [3, 2]
    for name in "bd":
        desk.scheduler.drop(name)
    desk.turn()
    assert [len(seats) for seats in desk.seats] == [3, 1]
    desk.add("g")
    desk.turn()
    assert [len(seats) for seats in desk.seats] == [3, 2]


def test_a_request_ends_when_its_time_is_over_wherever_it_is() -> None:
    desk = Desk([1], 9, timeout=10.0)
    desk.add("a", 2, now=0.0)
    desk.add("b", now=5.0)
    assert desk.scheduler.expire(9.9) == []
    assert desk.scheduler.expire(10.0) == ["a"]
    assert desk.turn() == ["b0"]
    assert desk.scheduler.expire(20.0) == ["b"]
    assert desk.turn() == []


def test_a_request_that_has_ended_is_never_late() -> None:
    desk = Desk([1], 9, timeout=10.0)
    desk.add("a", now=0.0)
    desk.turn()
    desk.scheduler.finish("a", desk.rows["a"][0])
    assert desk.scheduler.expire(99.0) == []


def test_callers_take_turns_at_free_slots() -> None:
    desk = Desk([1], 99)
    for at in range(6):
        desk.add(f"a{at}-", caller="a")
    for at in range(2):
        desk.add(f"b{at}-", caller="b")
    desk.add("c0-", caller="c")
    served = []
    for _ in range(9):
        [running] = desk.turn()
        served.append(running.partition("-")[0])
        desk.scheduler.drop(served[-1] + "-")
    assert served == ["a0", "a1", "b0", "c0", "a2", "b1", "a3", "a4", "a5"]


def test_a_caller_who_asks_for_all_leaves_slots_and_places_to_newcomers() -> None:
    desk = Desk([9], 16, spare=1)
    desk.add("a", 1, caller="a")
    desk.add("b", 23, caller="a")
    desk.scheduler.fork("b")
    assert desk.counts() == (8, 16)
    with pytest.raises(QueueFull):
        desk.add("c", caller="a")
    desk.add("d", caller="d")
    assert desk.turn()[-1] == "d0"
    assert desk.counts() == (9, 16)
    desk.add("e", caller="e")
    assert desk.counts() == (9, 17)
    with pytest.raises(QueueFull):  # as many as would be left to others
        desk.add("f", 2, caller="f")
    desk.scheduler.finish("a", desk.rows["a"][0])
    assert "e0" in desk.turn()
    desk.scheduler.finish("b", desk.rows["b"][0])
    assert len(desk.turn()) == 8  # the spare slot waits for the next newcomer
    desk.scheduler.finish("d", desk.rows["d"][0])
    assert "b7" in desk.turn()
    assert desk.counts() == (8, 15)


def test_a_request_that_was_prepared_for_long_ends_by_its_own_deadline() -> None:
    desk = Desk([1], 99)
    desk.add("b", now=5)
    desk.add("a", now=0)
    for at in range(500):
        desk.add(f"c{at}", now=7)
        desk.scheduler.drop(f"c{at}")
    assert desk.scheduler.expire(100) == ["a"]
    assert desk.scheduler.expire(105) == ["b"]
    assert desk.counts() == (0, 0)


VERBS = st.sampled_from(["add", "add", "fork", "finish", "drop", "expire", "turn", "turn"])


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(0, 4),
    st.lists(st.tuples(VERBS, st.integers(0, 9)), max_size=60),
)
def test_texts_are_never_lost_nor_doubled(slots: list[int], max_waiting: int, verbs: list[tuple[str, int]]) -> None:
    """A plain list of requests, in which the first texts in line have the slots, always agrees."""
    desk, alive, line = Desk(slots, max_waiting, timeout=10.0), dict[str, list[Text]](), list[Text]()
    came: dict[str, int] = {}
    latent: dict[str, list[Text]] = {}
    seated: list[Text] = []
    for now, (verb, number) in enumerate(verbs):
        name = list(alive)[number % len(alive)] if alive else ""
        leaving: list[str] = []
        if verb == "add":
            new, texts = f"r{now}-", number % 3 + 1
            try:
                desk.add(new, texts, now)
            except (QueueFull, ParameterError):
                assert sum(map(len, alive.values())) + texts > sum(slots) + max_waiting
            else:
                alive[new], came[new] = list(desk.rows[new]), now
                line.append(alive[new][0])
                latent[new] = alive[new][1:]
        elif verb == "fork" and alive and desk.rows[name][0] in seated:
            desk.scheduler.fork(name)
            line[:0] = latent.pop(name, [])
        elif verb == "finish" and (running := [row for row in alive.get(name, ()) if row in seated]):
            row = running[number % len(running)]
            desk.scheduler.finish(name, row)
            seated.remove(row)
            alive[name].remove(row)
            leaving = [] if alive[name] else [name]
        elif verb == "drop" and alive:
            desk.scheduler.drop(name)
            leaving = [name]
        elif verb == "expire":
            leaving = desk.scheduler.expire(now)
            assert leaving == [one for one in alive if came[one] + 10 <= now]
        for gone in leaving:
            rows = alive.pop(gone)
            line = [row for row in line if row not in rows]
            seated = [row for row in seated if row not in rows]
        while line and len(seated) < sum(slots):
            seated.append(line.pop(0))
        assert desk.counts() == (len(seated), sum(map(len, alive.values())) - len(seated))
        if verb == "turn":
            assert sorted(desk.turn()) == sorted(map(repr, seated))


def test_changes_that_were_taken_are_nobody_else_s() -> None:
    desk = Desk([2], 9)
    taken = desk.scheduler.changes(0)
    desk.add("a")
    assert taken == ([], [])  # a thread may still be going through them
    leaving, joining = desk.scheduler.changes(0)
    assert (leaving, [repr(row) for row in joining]) == ([], ["a0"])
    desk.scheduler.drop("a")
    assert [repr(row) for row in joining] == ["a0"]
    assert desk.scheduler.changes(0) == (joining, [])
