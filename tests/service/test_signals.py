"""Every signal a supervisor sends does what the documentation says, also while the server starts."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.service.serving import REPOSITORY, SlowRows, serving_process

LONG = {"prompt": "a", "max_tokens": 300, "stream": True}


def test_sigquit_lets_texts_end_and_the_others_do_nothing(checkpoint_folder: Path) -> None:
    with serving_process(str(checkpoint_folder), "--port", "0", rows=SlowRows) as (process, url):
        with httpx.stream("POST", f"{url}/v1/completions", json=LONG, timeout=30) as response:
            body = response.iter_raw()
            received = next(body)
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                process.send_signal(number)
            assert httpx.get(f"{url}/health/ready").status_code == 200
            process.send_signal(signal.SIGQUIT)
            received += b"".join(body)
        assert b'"finish_reason":"length"' in received
        assert process.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_server_that_starts_is_not_ended_by_what_tells_a_running_one_something(
    checkpoint_folder: Path, number: signal.Signals
) -> None:
    """Sent again and again, from the moment in which Python can hear it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unroll", "serve", str(checkpoint_folder), "--port", "0"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        while not _hears(process.pid, number):
            assert process.poll() is None
            time.sleep(0.002)
        for _ in range(200):
            process.send_signal(number)
            time.sleep(0.005)
        assert "Serving" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


def _hears(process: int, number: int) -> bool:
    """Whether a process ignores or handles a signal, as Linux tells it."""
    masks = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return any(int(masks[name], 16) >> (number - 1) & 1 for name in ("SigIgn", "SigCgt"))
