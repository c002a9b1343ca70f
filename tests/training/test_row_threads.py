"""Threads side by side: every piece of work once, in order, with one kernel thread each."""

import threading
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.row_threads import available_cores, default_threads, row_parts, side_by_side


@given(st.integers(1, 500), st.integers(1, 300))
def test_parts_cover_all_rows_once_in_order_and_are_of_one_size(rows: int, threads: int) -> None:
    parts = row_parts(rows, threads)
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
    sizes = [part.stop - part.start for part in parts]
    assert len(parts) == min(rows, threads)
    assert max(sizes) - min(sizes) <= 1


def test_pieces_of_work_run_at_once_and_each_has_one_kernel_thread() -> None:
    before = torch.get_num_threads()
    meeting = threading.Barrier(3, timeout=20)

    def work(number: int) -> tuple[int, int, int]:
        meeting.wait()  # passes only where all three run at the same time
        inside = side_by_side([threading.get_ident] * 3)
        assert set(inside) == {threading.get_ident()}  # work within work takes no further threads
        return number, torch.get_num_threads(), threading.get_ident()

    found = side_by_side([lambda: work(0), lambda: work(1), lambda: work(2)])
    assert [number for number, _, _ in found] == [0, 1, 2]
    assert {kernel for _, kernel, _ in found} == {1}
    assert len({thread for _, _, thread in found}) == 3
    assert found[0][2] == threading.get_ident()
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_waits_for_the_others(failing: int) -> None:
    ended = threading.Event()

    def fail() -> None:
        raise ValueError("this one")

    def work() -> None:
        threading.Event().wait(0.05)
        ended.set()

    with pytest.raises(ValueError, match="this one"):
        side_by_side([fail, work] if failing == 0 else [work, fail])
    assert ended.is_set()


def test_threads_are_as_many_as_the_cores_or_omp_num_threads_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("model.cores.available_cores", lambda: 6)
    assert available_cores() == 6
    assert [default_threads(rows) for rows in (1, 4, 8, 32, 64)] == [1, 1, 2, 6, 6]
    for said, cores in [("3", 3), ("2,1", 2), ("0", 6), ("many", 6), ("", 6)]:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert available_cores() == cores


def test_no_more_pieces_of_work_run_at_once_than_there_may_be_threads() -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.02)
        with lock:
            at_once -= 1
        return number

    assert side_by_side([partial(work, number) for number in range(5)], threads=2) == [0, 1, 2, 3, 4]
    assert most == 2
