"""A process that is alive and silent is ended from a thread that needs nothing of it."""

import subprocess
import sys

import pytest

from service.process.watchdog import EXIT_STATUS, LOOK_SECONDS, LOST, LOST_LOOKS, SILENT, Watchdog
from tests.service.serving import REPOSITORY

LOOKS = 6


@pytest.fixture
def said() -> list[bytes]:
    return []


def test_who_beats_goes_on_and_who_is_silent_is_ended(said: list[bytes]) -> None:
    watchdog = Watchdog(LOOKS * LOOK_SECONDS, end=said.append)
    for _ in range(5):
        watchdog.beat()
        for _ in range(LOOKS):
            watchdog.look()
    assert said == []
    watchdog.look()
    assert said == [SILENT]


def test_a_thread_that_is_gone_for_long_ends_the_process(said: list[bytes]) -> None:
    gone: list[bytes | None] = [LOST]
    watchdog = Watchdog(LOOKS * LOOK_SECONDS, lambda: gone[0], said.append)
    for looks, lost in ((LOST_LOOKS - 1, LOST), (1, None), (LOST_LOOKS, LOST)):
        assert said == []
        gone[0] = lost
        for _ in range(looks):
            watchdog.beat()
            watchdog.look()
    assert said == [LOST]


HANGING = """
import time
from service.process import watchdog
watchdog.LOOK_SECONDS = 0.02
watchdog.Watchdog(0.1).start()
time.sleep(60)
"""


def test_the_end_says_why_and_where_every_thread_stood() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == EXIT_STATUS
    assert done.stderr.startswith("CRITICAL The event loop has made no pass for too long")
    assert "most recent call first" in done.stderr
