"""Several processes behind one port are one server: the same texts, limits, counts and states, whichever answers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.decoding.rows import Drawn, Slots
from tests.service.raw_client import asking
from tests.service.serving import (
    ENDLESS,
    REPOSITORY,
    Reference,
    SlowRows,
    children_of,
    eventually,
    program,
    serving_process,
)

KEY, OTHER = "k" * 32, "o" * 32
COMPLETIONS = "/v1/completions"
LARGE = "b" * 300_000  # takes 3.4 of 8 megabytes


@dataclass(frozen=True)
class Whole:
    """A server of two processes."""

    parent: subprocess.Popen[str]
    url: str

    @property
    def processes(self) -> list[int]:
        """Those that serve."""
        return children_of(self.parent.pid)

    def ask(self, key: str = KEY, **fields: Any) -> httpx.Response:
        """The answer to a completion, on a connection of its own."""
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{self.url}{COMPLETIONS}", json={"prompt": "a", **fields}, headers=headers, timeout=30)

    def connect(self) -> socket.socket:
        """A connection without a request."""
        host, port = self.url.rpartition("/")[2].split(":")
        return socket.create_connection((host, int(port)), 10)

    def health(self, key: str = KEY) -> Any:
        """What /health says."""
        return httpx.get(f"{self.url}/health", headers={"Authorization": f"Bearer {key}"}, timeout=30).json()

    def count(self, name: str) -> float:
        """The sum of the values of a metric."""
        text = httpx.get(f"{self.url}/metrics", headers={"Authorization": f"Bearer {KEY}"}, timeout=30).text
        found = re.findall(rf"^unroll_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        assert found, name
        return sum(map(float, found))

    def complete(self) -> bool:
        """Whether both processes serve."""
        return len(self.processes) == 2 and self.health().get("processes") == 2

    @contextmanager
    def only(self, process: int) -> Iterator[None]:
        """New connections go to one process for a `with` block, as the others are stopped."""
        others = [one for one in self.processes if one != process]
        for one in others:
            os.kill(one, signal.SIGSTOP)
        try:
            yield
        finally:
            for one in others:
                os.kill(one, signal.SIGCONT)


@contextmanager
def two_processes(folder: Path, *flags: str, rows: type | None = None) -> Iterator[Whole]:
    """A server of two processes for a `with` block, from when both serve."""
    arguments = [str(folder), "--port", "0", "--processes", "2", *flags]
    with serving_process(*arguments, rows=rows, UNROLL_API_KEYS=f"{KEY},{OTHER}") as (parent, url):
        whole = Whole(parent, url)
        try:
            assert eventually(whole.complete, 20)
            yield whole
        finally:
            children = whole.processes
            parent.kill()
            for one in children:
                os.kill(one, signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(checkpoint_folder: Path) -> Iterator[Whole]:
    """A server for the tests that change nothing."""
    with two_processes(checkpoint_folder, "--memory-budget-bytes", "8000000", "--max-connections", "6") as found:
        yield found


def test_every_process_writes_the_text_of_one_that_serves_alone(whole: Whole, reference: Reference) -> None:
    fields: dict[str, Any] = {"max_tokens": 60, "seed": 7, "temperature": 0.9}
    expected = reference.write("abc", **fields).text
    bodies = set()
    for process in whole.processes:
        with whole.only(process):
            body = whole.ask(prompt="abc", **fields).json()
            streamed = whole.ask(prompt="abc", stream=True, **fields).text
        bodies.add(str({name: value for name, value in body.items() if name not in ("id", "created")}))
        assert body["choices"][0]["text"] == expected
        events = [json.loads(one) for one in re.findall(r"^data: ({.*})$", streamed, re.MULTILINE)]
        assert "".join(event["choices"][0]["text"] for event in events) == expected
    assert len(bodies) == 1


def test_a_text_goes_on_in_another_process(whole: Whole, reference: Reference) -> None:
    first, second = whole.processes
    with whole.only(first):
        begun = whole.ask(max_tokens=20, seed=3, return_state=True).json()["choices"][0]
    with whole.only(second):
        rest = whole.ask(prompt="", state=begun["state"], max_tokens=20).json()["choices"][0]
    assert begun["text"] + rest["text"] == reference.write("a", max_tokens=40, seed=3).text


def test_any_process_tells_what_all_have_counted(whole: Whole) -> None:
    before = whole.count("texts_submitted_total")
    for process in whole.processes:
        with whole.only(process):
            for _ in range(3):
                assert whole.ask(max_tokens=1).status_code == 200
    assert {whole.count("texts_submitted_total") for _ in range(6)} == {before + 6}
    assert whole.count("processes") == 2
    assert whole.count("memory_budget_bytes") == 8_000_000


def test_what_one_process_holds_is_not_left_to_the_other(whole: Whole) -> None:
    first, second = whole.processes
    body = b'{"prompt": "' + b"a" * 3_500_000
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OTHER}\r\n"
    with whole.only(first):
        connection = whole.connect()
        connection.sendall(f"{head}Content-Length: 4000000\r\n\r\n".encode() + body)
        assert eventually(lambda: whole.health()["memory"]["held_bytes"] >= len(body))
    with connection, whole.only(second):
        assert whole.health()["memory"]["held_bytes"] >= len(body)
        refused = whole.ask(prompt=LARGE, max_tokens=1)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "out_of_memory")
        assert whole.ask(max_tokens=1).status_code == 200
    assert eventually(lambda: whole.health()["memory"]["held_bytes"] == 0)
    assert whole.ask(prompt=LARGE, max_tokens=1).status_code == 200


def test_connections_are_counted_together(whole: Whole) -> None:
    kept: list[socket.socket] = []
    try:
        for process in whole.processes:
            with whole.only(process):
                for _ in range(3):
                    kept.append(whole.connect())
                    kept[-1].sendall(asking("/health/ready"))
                    assert kept[-1].recv(65_536).startswith(b"HTTP/1.1 200")
        assert whole.ask(max_tokens=1).status_code == 503
    finally:
        for one in kept:
            one.close()
    assert eventually(lambda: whole.ask(max_tokens=1).status_code == 200)


@pytest.fixture(scope="module")
def sparing(checkpoint_folder: Path) -> Iterator[Whole]:
    """A server that allows each key little."""
    limits = ("--key-requests-per-minute", "4", "--key-concurrent-requests", "1")
    with two_processes(checkpoint_folder, *limits, rows=SlowRows) as found:
        yield found


def test_a_key_has_its_limits_once_and_not_in_each_process(sparing: Whole) -> None:
    first, second = sparing.processes
    codes = []
    for process in (first, second, first, second, first):
        with sparing.only(process):
            codes.append(sparing.ask(max_tokens=1).status_code)
    assert codes == [200] * 4 + [429]
    with sparing.only(first):
        connection = sparing.connect()
        head = asking(COMPLETIONS, prompt="a", max_tokens=ENDLESS, stream=True)
        connection.sendall(head.replace(b"Host", b"Authorization: Bearer %b\r\nHost" % OTHER.encode()))
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    with connection, sparing.only(second):
        refused = sparing.ask(OTHER, max_tokens=1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_open_requests")


def test_a_process_that_dies_is_replaced_and_leaves_its_counts_and_none_of_what_it_held(
    checkpoint_folder: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{'f' * 32}\n")
    limits = ("--api-keys-file", str(keys), "--key-concurrent-requests", "1")
    with two_processes(checkpoint_folder, *limits, rows=SlowRows) as whole:
        victim, other = whole.processes
        for process in (victim, other):
            with whole.only(process):
                assert whole.ask(max_tokens=1).status_code == 200
        told = whole.count("texts_submitted_total")
        assert told == 2
        with whole.only(victim), httpx.Client(base_url=whole.url, timeout=30) as client:
            headers = {"Authorization": f"Bearer {OTHER}"}
            fields = {"prompt": "a", "max_tokens": ENDLESS, "stream": True}
            with client.stream("POST", COMPLETIONS, json=fields, headers=headers) as response:
                received = response.iter_raw()
                next(received)
                os.kill(victim, signal.SIGKILL)
                with pytest.raises(httpx.HTTPError):
                    list(received)
        answers = []
        while victim in whole.processes or not whole.complete():
            answers.append(whole.ask(max_tokens=1).status_code)
            assert whole.count("texts_submitted_total") >= told
        assert set(answers) <= {200}  # the other one answers meanwhile, and the new one only once it can
        assert other in whole.processes
        assert whole.ask(OTHER, max_tokens=1).status_code == 200  # its open request is over
        assert eventually(lambda: whole.health()["memory"]["held_bytes"] == 0)

        keys.write_text(f"{'f' * 32}\n{'n' * 32}\n")
        assert whole.ask("n" * 32, max_tokens=1).status_code == 401
        whole.parent.send_signal(signal.SIGHUP)
        for process in whole.processes:
            with whole.only(process):
                assert eventually(lambda: whole.ask("n" * 32, max_tokens=1).status_code == 200)


@pytest.mark.parametrize("again", [False, True])
def test_a_signal_to_stop_lets_texts_end_in_all_processes_and_a_second_one_does_not(
    checkpoint_folder: Path, again: bool
) -> None:
    fields = {"prompt": "a", "max_tokens": ENDLESS if again else 300, "stream": True}
    headers = {"Authorization": f"Bearer {KEY}"}
    with two_processes(checkpoint_folder, rows=SlowRows) as whole, httpx.Client(headers=headers, timeout=30) as client:
        streams = []
        for process in whole.processes:
            with whole.only(process):
                request = client.build_request("POST", f"{whole.url}{COMPLETIONS}", json=fields)
                streams.append(client.send(request, stream=True).iter_raw())
                next(streams[-1])
        children = whole.processes
        for one in (whole.parent.pid, *children):  # as a supervisor may that signals all it has started
            os.kill(one, signal.SIGTERM)
        if again:
            time.sleep(0.3)
            assert whole.processes == children
            whole.parent.send_signal(signal.SIGTERM)
            assert whole.parent.wait(10) == 0
        else:
            assert all(b'"finish_reason":"length"' in b"".join(stream) for stream in streams)
            assert whole.parent.wait(10) == 0
        assert not any(Path(f"/proc/{one}").exists() for one in children)


def test_processes_end_with_their_parent(checkpoint_folder: Path) -> None:
    with two_processes(checkpoint_folder) as whole:
        children = whole.processes
        whole.parent.kill()
        whole.parent.wait(10)
        assert eventually(lambda: not any(_alive(one) for one in children), 10)


class HangingRows(SlowRows):
    """Rows that make no step after the first few of a long text."""

    drawn = 0

    def draw(self, slots: Slots, steps: int) -> Drawn:
        self.drawn += steps
        if self.drawn > 20:
            time.sleep(1_000)
        return super().draw(slots, steps)


def test_a_process_that_makes_no_step_any_more_is_replaced(checkpoint_folder: Path) -> None:
    with two_processes(checkpoint_folder, "--stall-seconds", "0.5", rows=HangingRows) as whole:
        first, second = whole.processes
        with whole.only(first):
            connection = whole.connect()
            head = asking(COMPLETIONS, prompt="a", max_tokens=ENDLESS)
            connection.sendall(head.replace(b"Host", b"Authorization: Bearer %b\r\nHost" % KEY.encode()))
            assert eventually(lambda: whole.health()["status"] == "stalled")
        with connection:
            # whichever answers, as soon as it is written down for the others
            assert eventually(lambda: httpx.get(f"{whole.url}/health/ready").status_code == 503, 5)
            assert eventually(lambda: first not in whole.processes and whole.complete(), 20)
        assert second in whole.processes
        assert whole.ask(max_tokens=1).status_code == 200


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


BROKEN = """
import sys
import service.start
import unroll
def create_application(*_, **__):
    raise ValueError("this model is bad")
service.start.create_application = create_application
sys.argv = ["unroll", "serve", "--port", "0", "--processes", "2"]
unroll.main()
"""


def test_a_server_none_of_whose_processes_can_serve_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "this model is bad" in done.stderr
    assert "No process of the server could serve; the log says why." in done.stderr


def test_the_number_of_processes_has_a_range() -> None:
    assert (
        "processes is 65; choose a number from 1 to 64 with --processes or UNROLL_PROCESSES"
        in program("serve", "--processes", "65").stderr
    )
