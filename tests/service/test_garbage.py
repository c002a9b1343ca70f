"""Everything is collected when few requests are open, or after a long time, and never in the middle of a crowd.

Each test has a process of its own: a server that another test left in a thread collects in the whole process.
"""

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from service.garbage import FEW, MOST_PASSES, PASSES, Garbage

REPOSITORY = Path(__file__).parents[2]


def alone(program: Callable[[], None]) -> None:
    """Run a function of this module in an interpreter that does nothing else."""
    call = f"from {__name__} import {program.__name__}; {program.__name__}()"
    ended = subprocess.run([sys.executable, "-c", call], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


def noted_collections() -> list[int]:
    """How many passes there were before each collection of everything from now on."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            seen.append(gc.get_count()[2])

    gc.collect()
    gc.callbacks.append(note)
    return seen


def crowd(garbage: Garbage, passes: int) -> list[list[object]]:
    """Let what lives grow until so many passes over what is young are due since the last collection, with beats."""
    kept: list[list[object]] = []
    for _ in range(passes):
        kept += [[] for _ in range(2_000)]
        gc.collect(1)
        garbage.beat()
    return kept


def grow_in_a_crowd() -> None:
    collections = noted_collections()
    requests = [FEW + 1]
    garbage = Garbage(lambda: requests[0])
    garbage.start()
    assert gc.get_threshold()[2] > 1_000_000
    kept = crowd(garbage, 4 * PASSES)
    assert len(kept) == 8_000 * PASSES
    assert not collections, "what lives has grown by more than a quarter"
    requests[0] = FEW
    garbage.beat()
    assert len(collections) == 1
    garbage.beat()
    assert len(collections) == 1, "nothing has come since"


def wait_in_a_crowd() -> None:
    collections = noted_collections()
    garbage = Garbage(lambda: FEW + 1)
    garbage.start()
    for _ in range(MOST_PASSES + 1):
        gc.collect(1)
        garbage.beat()
    assert len(collections) == 1


class Cycle:
    """Garbage that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def leave_garbage_in_a_crowd() -> None:
    collections = noted_collections()
    garbage = Garbage(lambda: FEW + 1)
    garbage.start()
    for _ in range(100_000):
        Cycle()
    left = sum(isinstance(one, Cycle) for one in gc.get_objects())
    assert left < 20_000
    assert not collections


def test_what_lives_is_not_looked_at_in_the_middle_of_a_crowd() -> None:
    alone(grow_in_a_crowd)


def test_what_waits_to_be_collected_is_bounded() -> None:
    alone(wait_in_a_crowd)


def test_garbage_of_a_crowd_is_collected_while_it_is_young() -> None:
    alone(leave_garbage_in_a_crowd)
