"""Whatever is asked for and given back in any order, the ledger stays within its budget and ends empty."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import MemorySpent, TooCostly
from service.process.ledger import Lease, Ledger
from service.process.memory import AMPLE, CALM_SECONDS, LOOK_SECONDS, RELIEF_SECONDS, Headroom, Memory

BUDGET = 1_000
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "grow", "shrink", "release"]), st.integers(0, 1_500), st.sampled_from("abc")),
    max_size=60,
)


@given(STEPS)
def test_leases_never_exceed_the_budget_and_leave_nothing_behind(steps: list[tuple[str, int, str]]) -> None:
    ledger = Ledger(BUDGET)
    leases: list[Lease] = []
    for verb, size, holder in steps:
        try:
            if verb == "take":
                leases.append(ledger.take(size, holder))
            elif leases:
                lease = leases[size % len(leases)]
                if verb == "release":
                    leases.remove(lease)
                    lease.release()
                elif verb == "grow":
                    lease.grow(size)
                else:
                    lease.shrink(size)
        except (MemorySpent, TooCostly):
            pass
        assert ledger.held == sum(lease.size for lease in leases) <= BUDGET
    for lease in leases:
        lease.release()
        lease.release()
    assert ledger.held == 0
    assert not any(map(ledger._sums.of, "abc"))


@given(st.integers(2, 20))
def test_greedy_holders_leave_a_newcomer_as_much_as_each_of_them_has(holders: int) -> None:
    ledger = Ledger(BUDGET)
    leases = [ledger.take(1, holder) for holder in range(holders)]
    growing = set(leases)
    while growing:
        for lease in list(growing):
            try:
                lease.grow(1)
            except MemorySpent:
                growing.discard(lease)
    fair = BUDGET // (holders + 1)
    assert max(lease.size for lease in leases) <= fair + 1
    assert ledger.take(fair // 2, "newcomer").size == fair // 2


def test_one_request_of_an_idle_server_may_have_all_and_none_may_have_more() -> None:
    ledger = Ledger(BUDGET)
    with ledger.take(600, "a") as lease:
        lease.grow(400)
        with pytest.raises(TooCostly, match="needs 1,001 bytes of memory, and all requests together may have 1,000"):
            lease.grow(1)
        with pytest.raises(MemorySpent, match="try again in a moment, or send less"):
            ledger.take(1, "b")
        assert ledger.held == ledger.most == 1_000
    assert (ledger.held, ledger.refused) == (0, 2)
    with pytest.raises(ValueError, match="released"):
        lease.grow(1)


class Told(Memory):
    """A machine with as much memory left as it is told."""

    def __init__(self, **sizes: int) -> None:
        self.sizes: dict[str, Any] = sizes

    @property
    def limit(self) -> int:
        return int(self.sizes["limit"])

    @property
    def left(self) -> int:
        return int(self.sizes["left"])

    @property
    def own_left(self) -> int | None:
        return self.sizes.get("own_left")


def test_nothing_is_charged_that_the_machine_has_not() -> None:
    """16 of 256 MB are kept free; what is taken between two looks counts as used."""
    now = [0.0]
    machine = Told(limit=256 << 20, left=20 << 20)
    ledger = Ledger(1 << 30, Headroom(machine, lambda: now[0]))
    first = ledger.take(3 << 20)
    with pytest.raises(MemorySpent):
        ledger.take(2 << 20)
    now[0] += LOOK_SECONDS
    second = ledger.take(2 << 20)
    machine.sizes["left"] = 10 << 20
    now[0] += LOOK_SECONDS
    with pytest.raises(MemorySpent):
        ledger.take(1)
    assert ledger.take(0).size == 0  # a probe costs nothing
    first.release()
    second.release()
    assert ledger.held == 0


def test_where_much_is_left_looks_are_rare_until_much_is_used() -> None:
    now = [0.0]
    machine = Told(limit=8 << 30, left=AMPLE + (100 << 20))
    headroom = Headroom(machine, lambda: now[0])
    assert headroom.left >= AMPLE
    machine.sizes["left"] = 40 << 20
    now[0] += LOOK_SECONDS
    assert headroom.left >= AMPLE
    headroom.use(200 << 20)
    assert headroom.left < 40 << 20
    machine.sizes["left"] = AMPLE + (100 << 20)
    now[0] += LOOK_SECONDS
    assert headroom.left >= AMPLE
    machine.sizes["left"] = 40 << 20
    now[0] += CALM_SECONDS
    assert headroom.left < 40 << 20


def test_under_pressure_what_can_be_made_anew_is_given_back_now_and_then() -> None:
    now, kept = [0.0], [10 << 20]
    machine = Told(limit=256 << 20, left=16 << 20)

    def relieve() -> None:
        machine.sizes["left"] += kept.pop() if kept else 0

    headroom = Headroom(machine, lambda: now[0], relieve)
    assert headroom.left == 10 << 20
    machine.sizes["left"], kept[:] = 0, [20 << 20]
    now[0] += LOOK_SECONDS
    assert headroom.left < 0  # it has just been tried
    now[0] += RELIEF_SECONDS
    assert headroom.left == 4 << 20


def test_a_process_is_starved_that_has_used_up_its_own_limit_for_nobody() -> None:
    now = [0.0]
    machine = Told(limit=256 << 20, left=20 << 20, own_left=20 << 20)
    ledger = Ledger(1 << 30, Headroom(machine, lambda: now[0]))
    lease = ledger.take(1)
    machine.sizes["left"] = machine.sizes["own_left"] = 1 << 20
    now[0] += LOOK_SECONDS
    assert (ledger.exhausted, ledger.starved) == (True, False)  # what a request holds will be given back
    lease.release()
    assert (ledger.exhausted, ledger.starved) == (True, True)
    machine.sizes["own_left"] = None
    assert (ledger.exhausted, ledger.starved) == (True, False)  # others hold it; a new process finds no more
