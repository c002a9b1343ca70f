"""The budget ends a run, and the schedule gives every step its learning rate."""

import itertools

import pytest

from training.planning.schedule import Budget, Decay, Schedule


def test_the_budget_that_ends_first_counts() -> None:
    assert Budget(ids=100).progress(25, elapsed=1e9) == 0.25
    assert Budget(seconds=60).progress(10**9, elapsed=15) == 0.25
    assert Budget(ids=100, seconds=60).progress(25, elapsed=45) == 0.75


@pytest.mark.parametrize(("decay", "half"), [("cosine", 2e-3), ("linear", 2e-3), ("constant", 4e-3)])
def test_the_rate_warms_up_peaks_and_falls(decay: Decay, half: float) -> None:
    schedule = Schedule(4e-3, 50, decay)
    rates = [schedule.rate(step, step / 2000) for step in range(2001)]
    assert rates[0] == pytest.approx(4e-3 / 50)
    assert max(rates) == pytest.approx(4e-3, rel=0.06)  # a straight fall has begun when the warm-up ends
    assert rates[1000] == pytest.approx(half)
    assert rates[2000] == (4e-3 if decay == "constant" else 0)
    quarter = schedule.rate(1500, 0.75)
    assert quarter == pytest.approx({"cosine": 4e-3 * 0.1464466, "linear": 1e-3, "constant": 4e-3}[decay])
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))
