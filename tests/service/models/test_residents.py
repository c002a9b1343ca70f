"""Models that are loaded when they are asked for: within the limits, the least used out first, no crowd in the way."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import WEIGHTS, save
from model.decoding.decoder import Decoder
from model.decoding.rows import Rows
from service.app import create_application
from service.errors import SettingsError
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Reference, Running, SlowRows, eventually, serving

NAMES = ("a", "b", "c", "d")
FIELDS: dict[str, Any] = {"prompt": "abc", "max_tokens": 40, "seed": 5}
HELD = 40  # units of a network that is loaded only when a test says so


class HeldDecoder(Decoder):
    """A decoder that takes its time, and of one width is made only once `may_load` is set."""

    may_load = threading.Event()
    loading = threading.Event()

    def __init__(self, checkpoint: Any, *more: Any) -> None:
        if checkpoint.config.hidden == HELD:
            HeldDecoder.loading.set()
            assert HeldDecoder.may_load.wait(30)
        super().__init__(checkpoint, *more)

    def rows(self, slots: int) -> Rows:
        return SlowRows(super().rows(slots))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for seed, name in enumerate(NAMES):
        save(small_checkpoint(seed=seed), folder / name)
    return folder


@pytest.fixture(scope="module")
def written(models: Path) -> dict[str, str]:
    return {name: Reference(models / name).write(**FIELDS).text for name in NAMES}


@contextmanager
def server_of(models: Path, decoder: type[Decoder] = Decoder, **settings: Any) -> Iterator[Running]:
    with serving(Settings(models=models, default_model="a", **settings), decoder) as running:
        yield running


def loaded(server: Running) -> list[str]:
    return [card["id"] for card in server.client.get("/v1/models").json()["data"] if card["loaded"]]


def text(server: Running, model: str, **fields: Any) -> str:
    response = server.client.post("/v1/completions", json={**FIELDS, "model": model, **fields})
    assert response.status_code == 200, response.text
    found: str = response.json()["choices"][0]["text"]
    return found


def loads(server: Running) -> int:
    return sum(entry.loads for entry in server.registry)


def held(server: Running) -> int:
    """Models that anything refers to."""
    return len(server.registry._residents._held)


def test_the_least_recently_used_gives_way_and_what_is_pinned_stays(models: Path, written: dict[str, str]) -> None:
    with server_of(models, max_loaded_models=2, pinned_models="b") as server:
        cards = server.client.get("/v1/models").json()["data"]
        assert [(card["id"], card["parameters"] > 0, len(card["digest"])) for card in cards] == [
            (name, True, 64) for name in NAMES
        ]
        assert loaded(server) == ["a", "b"]
        for name in ("c", "d", "a", "b", "c"):
            assert text(server, name) == written[name]
            assert loaded(server) == sorted({name if name != "b" else "a", "b"})
            assert eventually(lambda: held(server) <= 2)


def test_every_route_loads_what_it_needs(models: Path) -> None:
    with server_of(models, max_loaded_models=1) as server:
        assert server.client.post("/tokenize", json={"prompt": "ab", "model": "b"}).json()["count"] == 2
        assert server.client.post("/v1/score", json={"texts": "ab", "model": "c"}).status_code == 200
        assert server.client.post("/models/d/generate", json={"inputs": "ab"}).status_code == 200
        assert server.client.get("/tokenizer_info?model=b").status_code == 200
        assert server.client.get("/info").json()["model_id"] == "a"


def test_memory_is_counted_before_a_model_is_loaded(models: Path, written: dict[str, str]) -> None:
    with serving(Settings(checkpoint=models / "a")) as one:
        [entry] = list(one.registry)
        assert entry.served is not None
        room = entry.served.nbytes + entry.facts.loading_bytes + 1000
    most = 0
    with server_of(models, model_memory=room) as server:
        for name in ("b", "c", "d", "a", "d"):
            assert text(server, name) == written[name]
            most = max(most, server.registry.memory_bytes)
            assert len(loaded(server)) <= 2
    assert 0 < most <= room
    with server_of(models, model_memory=1 << 20) as server:
        refused = server.client.post("/v1/completions", json={**FIELDS, "model": "b"})
        assert refused.status_code == 503
        assert refused.json()["error"]["message"] == "The model 'b' is larger than this server may load."


def test_what_is_pinned_has_to_fit(models: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"There is no room for the model 'c' that is to stay in memory; allow more"
    ):
        create_application(Settings(models=models, max_loaded_models=2, pinned_models="a,b,c"))


def test_no_request_waits_for_another_model_s_loading(models: Path, tmp_path: Path, written: dict[str, str]) -> None:
    for name in NAMES:
        (tmp_path / name).symlink_to(models / name)
    save(small_checkpoint(seed=9, hidden=HELD), tmp_path / "held")
    HeldDecoder.may_load.clear()
    HeldDecoder.loading.clear()
    with server_of(tmp_path, HeldDecoder, max_loaded_models=3) as server, ThreadPoolExecutor() as pool:
        waiting = [pool.submit(text, server, "held") for _ in range(3)]
        assert HeldDecoder.loading.wait(20)
        assert text(server, "a") == written["a"]
        assert text(server, "b") == written["b"]  # cold as well
        assert server.client.get("/health").status_code == 200
        assert not any(one.done() for one in waiting)
        HeldDecoder.may_load.set()
        expected = Reference(tmp_path / "held").write(**FIELDS).text
        assert [one.result() for one in waiting] == [expected] * 3
        assert [entry.loads for entry in server.registry if entry.name == "held"] == [1]


def test_llama_cpp_router_a_model_that_loads_is_not_killed(models: Path, tmp_path: Path) -> None:
    """Its router takes a model that still loads for one that can be ended to make room. Here it is loaded, and used."""
    for name in NAMES:
        (tmp_path / name).symlink_to(models / name)
    save(small_checkpoint(seed=9, hidden=HELD), tmp_path / "held")
    HeldDecoder.may_load.clear()
    HeldDecoder.loading.clear()
    with server_of(tmp_path, HeldDecoder, max_loaded_models=1) as server, ThreadPoolExecutor() as pool:
        first = pool.submit(text, server, "held")
        assert HeldDecoder.loading.wait(20)
        others = [pool.submit(text, server, name) for name in ("b", "c")]
        time.sleep(0.1)
        assert not first.done()
        HeldDecoder.may_load.set()
        assert first.result() == Reference(tmp_path / "held").write(**FIELDS).text
        assert [one.result() for one in others] == [Reference(models / name).write(**FIELDS).text for name in "bc"]


def test_a_version_that_is_replaced_while_it_loads_is_not_served(tmp_path: Path) -> None:
    save(small_checkpoint(seed=1), tmp_path / "a")
    save(small_checkpoint(seed=9, hidden=HELD), tmp_path / "held")
    HeldDecoder.may_load.clear()
    HeldDecoder.loading.clear()
    with server_of(tmp_path, HeldDecoder, max_loaded_models=2) as server, ThreadPoolExecutor() as pool:
        before = server.client.get("/v1/models/held").json()["digest"]
        waiting = pool.submit(text, server, "held")
        assert HeldDecoder.loading.wait(20)
        save(small_checkpoint(seed=10, hidden=HELD), tmp_path / "held")
        assert eventually(lambda: server.client.get("/v1/models/held").json()["digest"] != before, seconds=20)
        HeldDecoder.may_load.set()
        expected = Reference(tmp_path / "held").write(**FIELDS).text
        assert waiting.result() == expected == text(server, "held")


def test_a_busy_model_gives_way_once_its_texts_have_ended(models: Path, written: dict[str, str]) -> None:
    """Not before: its texts are whole, and what waits for its place is not refused."""
    long = Reference(models / "a").write(**{**FIELDS, "max_tokens": 1000}).text
    with server_of(models, HeldDecoder, max_loaded_models=1) as server, ThreadPoolExecutor() as pool:
        running = pool.submit(text, server, "a", max_tokens=1000)
        assert eventually(lambda: server.engine.running == 1)
        waiting = pool.submit(text, server, "b")
        while not waiting.done():
            assert held(server) <= 1
            time.sleep(0.01)
        assert running.done()
        assert (running.result(), waiting.result()) == (long, written["b"])


def test_ollama_two_crowds_on_two_models_do_not_thrash(models: Path, written: dict[str, str]) -> None:
    """With room for one model, they change places about once a second and not with each request."""
    answered = dict.fromkeys("ab", 0)
    with server_of(models, HeldDecoder, max_loaded_models=1) as server:
        began = time.monotonic()

        def ask(name: str) -> None:
            while time.monotonic() - began < 4:
                assert text(server, name) == written[name]
                answered[name] += 1

        with ThreadPoolExecutor() as pool:
            for asking in [pool.submit(ask, name) for name in "ab" for _ in range(4)]:
                asking.result()
        took = time.monotonic() - began
        assert min(answered.values()) >= 4
        assert sum(answered.values()) > 3 * loads(server)
        assert loads(server) <= 3 + 2 * took


def test_a_model_that_cannot_be_loaded_is_503_and_is_tried_again(tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        save(small_checkpoint(seed=seed), tmp_path / name)
    with server_of(tmp_path, max_loaded_models=1) as server:
        content = (tmp_path / "b" / WEIGHTS).read_bytes()
        (tmp_path / "b" / WEIGHTS).write_bytes(content[:-9])
        refused = server.client.post("/v1/completions", json={**FIELDS, "model": "b"})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "model_unavailable"
        assert str(tmp_path) not in refused.text
        assert text(server, "a")
        (tmp_path / "b" / WEIGHTS).write_bytes(content)
        body = {**FIELDS, "model": "b"}
        assert eventually(lambda: server.client.post("/v1/completions", json=body).status_code == 200, seconds=20)


def test_a_version_that_was_replaced_before_it_was_loaded_is_gone(tmp_path: Path) -> None:
    for seed, name in enumerate(NAMES):
        save(small_checkpoint(seed=seed), tmp_path / name)
    with server_of(tmp_path, max_loaded_models=1) as server:
        digest = server.client.get("/v1/models/b").json()["digest"]
        save(small_checkpoint(seed=8), tmp_path / "b")
        assert eventually(lambda: server.client.get("/v1/models/b").json()["digest"] != digest, seconds=20)
        pinned = server.client.post("/v1/completions", json={**FIELDS, "model": f"b@{digest}"})
        assert pinned.status_code == 409
        assert text(server, "b") == Reference(tmp_path / "b").write(**FIELDS).text
