"""The program as it is started: as process 1 and as another."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HANDLERS = """
import os, signal, sys
import unroll
assert os.getpid() == 1
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "import"
assert not {"typer", "rich", "click"} & set(sys.modules), "slow imports"

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {"typer", "rich", "model"}:
            assert signal.getsignal(signal.SIGTERM) is unroll.end_now, name
            assert signal.getsignal(signal.SIGINT) is unroll.end_now, name
            os.kill(1, signal.SIGTERM)

sys.meta_path.insert(0, Watch())
sys.argv = ["unroll", "info"]
unroll.main()
"""


def test_process_1_hears_signals_before_its_first_slow_import_and_not_by_an_import() -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    try:
        subprocess.run([*namespace, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs unshare and the right to make a namespace of processes")
    done = subprocess.run([*namespace, sys.executable, "-c", HANDLERS], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")


def test_a_process_that_is_not_the_first_keeps_its_handlers() -> None:
    code = """
import signal, sys, unroll
sys.argv = ["unroll", "--help"]
try:
    unroll.main()
finally:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
