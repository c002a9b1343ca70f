"""Property P7 but for its load: live, ready and detail differ and are true while loading, stalling, stopping, dying."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import httpx
import pytest

from model.decoding.decoder import Decoder
from model.decoding.rows import Drawn, Rows, Slots
from model.errors import CheckpointError
from service.app import Application, create_application
from service.process.memory import KEPT_FREE, Memory
from service.server import make_server
from service.settings import Settings
from service.transport.listeners import listen
from service.transport.startup_gate import Gate
from tests.service.serving import ENDLESS, Running, SlowRows, eventually, serving, serving_process

LONG = {"prompt": "a", "max_tokens": ENDLESS, "stream": True}


def words(client: httpx.Client) -> dict[str, tuple[int, str]]:
    """Status and word of each of the three."""
    answers = {path: client.get(path) for path in ("/health", "/health/live", "/health/ready")}
    return {path: (answer.status_code, answer.json()["status"]) for path, answer in answers.items()}


def test_a_server_at_rest_is_live_and_ready(server: Running) -> None:
    assert set(words(server.client).values()) == {(200, "ok")}
    assert server.client.get("/health").json()["still_seconds"] == 0
    assert server.client.get("/health/live").json() == {"status": "ok"}


@contextmanager
def loading(load: Queue[Exception | Settings]) -> Iterator[tuple[httpx.Client, Gate[Application], threading.Thread]]:
    """A server whose model is loaded when the queue says so."""

    def wait() -> Application:
        given = load.get(timeout=30)
        if isinstance(given, Exception):
            raise given
        return create_application(given)

    gate = Gate(wait)
    server = make_server(gate, Settings())
    (listener,) = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            yield client, gate, thread
    finally:
        load.put(CheckpointError("The test is over."))
        server.force_exit = server.should_exit = True
        thread.join()


def test_a_server_that_loads_is_live_and_not_ready(checkpoint_folder: Path) -> None:
    load: Queue[Exception | Settings] = Queue()
    with loading(load) as (client, gate, _):
        loads = {"/health": (503, "loading"), "/health/live": (200, "loading"), "/health/ready": (503, "loading")}
        assert words(client) == loads
        refused = client.post("/v1/completions", json={"prompt": "a"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "loading"
        assert client.get("/no/such/route").status_code == 503
        load.put(Settings(checkpoint=checkpoint_folder))
        assert eventually(lambda: gate.loaded is not None)
        assert set(words(client).values()) == {(200, "ok")}
        assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 200


def test_a_server_that_cannot_load_ends_and_says_why() -> None:
    load: Queue[Exception | Settings] = Queue()
    with loading(load) as (client, gate, thread):
        assert client.get("/health/live").status_code == 200
        load.put(CheckpointError("There is no model."))
        thread.join(10)
        assert not thread.is_alive()
    assert str(gate.error) == "There is no model."


class HungRows(SlowRows):
    """Rows whose draws wait until they may go on."""

    go_on = threading.Event()

    def draw(self, slots: Slots, steps: int) -> Drawn:
        self.go_on.wait(30)
        return self.rows.draw(slots, steps)


class HungDecoder(Decoder):
    def rows(self, slots: int) -> Rows:
        return HungRows(super().rows(slots))


def test_a_server_whose_work_makes_no_step_is_not_ready_and_at_last_not_live(checkpoint_folder: Path) -> None:
    HungRows.go_on.clear()
    settings = Settings(checkpoint=checkpoint_folder, stall_seconds=0.2)
    with serving(settings, HungDecoder) as running:
        time.sleep(0.3)
        assert set(words(running.client).values()) == {(200, "ok")}  # nothing to do is no stall
        asking = threading.Thread(target=running.complete)
        asking.start()
        assert eventually(lambda: words(running.client)["/health/ready"] == (503, "stalled"))
        assert words(running.client)["/health/live"] == (200, "stalled")
        assert running.client.get("/health").json()["still_seconds"] > 0.2
        assert eventually(lambda: words(running.client)["/health/live"] == (503, "stalled"))
        HungRows.go_on.set()
        assert eventually(lambda: set(words(running.client).values()) == {(200, "ok")})
        asking.join()


def test_a_server_without_memory_is_not_ready_until_there_is_some(
    checkpoint_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [1 << 30]
    monkeypatch.setattr(Memory, "left", property(lambda _: left[0]))
    with serving(Settings(checkpoint=checkpoint_folder)) as running:
        assert set(words(running.client).values()) == {(200, "ok")}
        left[0] = KEPT_FREE
        assert eventually(lambda: words(running.client)["/health/ready"] == (503, "out_of_memory"))
        assert words(running.client)["/health/live"] == (200, "out_of_memory")
        refused = running.client.post("/v1/completions", json={"prompt": "a", "max_tokens": 1})
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        left[0] = 1 << 30
        assert eventually(lambda: words(running.client)["/health/ready"] == (200, "ok"))
        assert running.complete(max_tokens=1)["choices"]


def test_work_that_waits_for_its_turn_is_no_stall(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, stall_seconds=0.2, max_rows=1)
    with serving(settings) as running, running.client.stream("POST", "/v1/completions", json=LONG) as stream:
        pieces = stream.iter_raw()
        next(pieces)
        with httpx.Client(base_url=running.url) as other, other.stream("POST", "/v1/completions", json=LONG):
            pass
        for _ in range(10):
            assert words(running.client)["/health/ready"] == (200, "ok")
            time.sleep(0.05)


def test_a_server_that_stops_is_live_and_not_ready(checkpoint_folder: Path) -> None:
    arguments = (str(checkpoint_folder), "--port", "0")
    with serving_process(*arguments, rows=SlowRows) as (process, url), httpx.Client(base_url=url, timeout=30) as client:
        with httpx.stream("POST", f"{url}/v1/completions", json={**LONG, "max_tokens": 300}, timeout=30) as response:
            body = response.iter_raw()
            received = next(body)
            process.send_signal(signal.SIGTERM)
            assert eventually(lambda: client.get("/health/ready").status_code == 503)
            stops = {
                "/health": (503, "draining"),
                "/health/live": (200, "draining"),
                "/health/ready": (503, "draining"),
            }
            assert words(client) == stops
            refused = client.post("/v1/completions", json={"prompt": "a"})
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "draining"
            received += b"".join(body)
        assert b'"finish_reason":"length"' in received
        assert process.wait(30) == 0


class DyingRows(SlowRows):
    """Rows whose thread ends."""

    def draw(self, slots: Slots, steps: int) -> Drawn:  # noqa: ARG002
        raise SystemExit


class DyingDecoder(Decoder):
    def rows(self, slots: int) -> Rows:
        return DyingRows(super().rows(slots))


def test_a_server_whose_thread_has_died_is_neither(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder), DyingDecoder) as running:
        assert running.client.post("/v1/completions", json={"prompt": "a"}).status_code == 503
        assert set(words(running.client).values()) == {(503, "failed")}


def test_health_is_asked_without_a_key_and_tells_nothing_of_prompts(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, api_keys="k" * 32)) as running:
        assert set(words(running.client).values()) == {(200, "ok")}
        assert set(running.client.get("/health").json()) == {
            *("status", "model", "running", "waiting", "still_seconds", "failures"),
        }
        keyed = running.client.get("/health", headers={"Authorization": "Bearer " + "k" * 32}).json()
        assert keyed["prefix_cache"]["cached_tokens"] == 0
        assert keyed["memory"]["held_bytes"] == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_health_is_only_read(server: Running, method: str) -> None:
    assert server.client.request(method, "/health/ready").status_code == 405
