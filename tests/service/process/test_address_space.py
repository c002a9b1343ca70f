"""Under `ulimit -v` a server starts or says why not, refuses what does not fit, and takes work again afterwards."""

import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.process.address_space import LEAST, enough_to_run
from tests.load.process import Running, unroll_serve
from tests.load.wire import Answer, Talk, request
from tests.service.serving import REPOSITORY, eventually

MB = 1 << 20
BODY = b'{"texts": ["' + b"a" * (8 * MB) + b'"]}'
ROOM = 40 * MB  # beyond what a server has mapped; the law holds with 300 MB of it as well


def bounded(limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def test_with_less_than_the_libraries_take_it_says_so_before_they_are_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unroll", "serve", "--port", "0"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=bounded(LEAST - 1),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "unroll: The process may map 255 MB (ulimit -v), and a server takes at least 256 MB; raise the limit, or set "
        "none.\n"
    )


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_lack_of_memory_or_threads_ends_with_a_sentence(error: Exception) -> None:
    sentence = r"not enough memory or threads to run: ulimit -v is .*; raise them"
    with pytest.raises(SettingsError, match=sentence), enough_to_run():
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="a mistake"), enough_to_run():
        raise RuntimeError("a mistake")


def mapped(server: Running) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text("ascii")
    return int(re.findall(r"VmSize:\s+(\d+)", status)[0]) << 10


def asked(server: Running, data: bytes) -> Answer:
    talk = Talk(server.port)
    try:
        return talk.ask(data)
    finally:
        talk.close()


def test_what_does_not_fit_is_refused_and_work_is_taken_again_when_it_has_gone(checkpoint_folder: Path) -> None:
    short = request("/v1/completions", {"prompt": "a", "max_tokens": 3})
    with unroll_serve(str(checkpoint_folder), "--max-body-bytes", str(16 * MB), core=None) as server:
        assert asked(server, short).status == 200
        server.limit(resource.RLIMIT_AS, mapped(server) + ROOM)
        seen = {asked(server, request("/v1/score", body=BODY)).status for _ in range(6)}
        assert seen <= {400, 413, 503}
        assert eventually(lambda: asked(server, short).status == 200, seconds=5)
        assert asked(server, request("/health/ready")).status == 200
