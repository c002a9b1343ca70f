"""Models that are replaced while they write: texts end on their version, and a bad replacement changes nothing."""

import os
import shutil
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.checkpoint import CONFIG, TOKENIZER, WEIGHTS, Checkpoint, save
from service.models import folder_watch
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Reference, Running, SlowDecoder, eventually, serving, serving_process

FIELDS: dict[str, Any] = {"prompt": "abc", "max_tokens": 40, "seed": 5}
LONG: dict[str, Any] = {"prompt": "abc", "max_tokens": 600, "seed": 6}


def checkpoint(seed: int) -> Checkpoint:
    return small_checkpoint(seed=seed)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are quiet after a moment."""
    monkeypatch.setattr(folder_watch, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(folder_watch, "LOOK_SECONDS", 0.05)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    save(checkpoint(1), tmp_path / "models" / "one")
    return tmp_path / "models"


@pytest.fixture
def server(models: Path) -> Iterator[Running]:
    with serving(Settings(models=models)) as running:
        yield running


@pytest.fixture
def slow(models: Path) -> Iterator[Running]:
    with serving(Settings(models=models), SlowDecoder) as running:
        yield running


def digest(server: Running, name: str = "one") -> str | None:
    card = server.client.get(f"/v1/models/{name}")
    return card.json()["digest"] if card.status_code == 200 else None


def swapped(server: Running, before: str | None, name: str = "one") -> bool:
    return eventually(lambda: digest(server, name) not in (None, before), seconds=20)


def text(server: Running, **fields: Any) -> str:
    response = server.client.post("/v1/completions", json={**FIELDS, **fields})
    assert response.status_code == 200, response.text
    written: str = response.json()["choices"][0]["text"]
    return written


@pytest.mark.parametrize(
    ("folder", "shown"),
    [
        ("two words", "two words"),
        ("-x", "-x"),
        ("é", "\\xe9"),
        (os.fsdecode(b"bad\xff"), "bad\\udcff"),
        ("x" * 101, f"{'x' * 99}…"),
    ],
)
def test_a_folder_whose_name_is_none_is_told_of(folder: str, shown: str, server: Running, models: Path) -> None:
    """It is no model, and /health, the log and a metric say why."""
    save(checkpoint(2), models / folder)
    assert eventually(lambda: shown in server.client.get("/health").json()["models"]["problems"], seconds=20)
    assert "rename it to letters, digits" in server.client.get("/health").json()["models"]["problems"][shown]
    assert "unroll_model_refusals_total" in server.client.get("/metrics").text
    assert [card["id"] for card in server.client.get("/v1/models").json()["data"]] == ["one"]
    (models / folder).rename(models / "named")
    assert swapped(server, None, "named")
    assert eventually(lambda: not server.client.get("/health").json()["models"]["problems"], seconds=20)


def test_a_strange_name_is_none_at_the_start_either(models: Path) -> None:
    save(checkpoint(2), models / "a b")
    with serving(Settings(models=models)) as running:
        assert [card["id"] for card in running.client.get("/v1/models").json()["data"]] == ["one"]
        assert eventually(lambda: "a b" in running.client.get("/health").json()["models"]["problems"], seconds=20)


def test_a_folder_that_appears_is_served_and_one_that_goes_is_drained(slow: Running, models: Path) -> None:
    save(checkpoint(2), models / "two")
    assert swapped(slow, None, "two")
    expected = Reference(models / "two").write(**LONG).text
    with ThreadPoolExecutor() as pool:
        running = pool.submit(text, slow, model="two", **LONG)
        assert eventually(lambda: slow.engine.running == 1)
        shutil.rmtree(models / "two")
        assert eventually(lambda: digest(slow, "two") is None, seconds=20)
        refused = slow.client.post("/v1/completions", json={**FIELDS, "model": "two"})
        assert refused.status_code == 404
        assert "this server has 'one'" in refused.json()["error"]["message"]
        assert slow.engine.running == 1
        assert running.result() == expected


def test_llama_cpp_router_a_swap_aborts_no_running_request(slow: Running, models: Path) -> None:
    """Its router stops the process of a model that is replaced, with the requests in it."""
    old = Reference(models / "one")
    before = digest(slow)
    with ThreadPoolExecutor(16) as pool:
        running = [pool.submit(text, slow, **{**LONG, "seed": seed}) for seed in range(6)]
        assert eventually(lambda: slow.engine.running == 6)
        save(checkpoint(2), models / "one")
        assert swapped(slow, before)
        new = Reference(models / "one")
        assert slow.engine.running == 6
        assert text(slow) == new.write(**FIELDS).text
        for seed, one in enumerate(running):
            assert one.result() == old.write(**{**LONG, "seed": seed}).text
    pinned = slow.client.post("/v1/completions", json={**FIELDS, "model": f"one@{before}"})
    assert pinned.status_code == 409
    assert f"one@{digest(slow)}" in pinned.json()["error"]["message"]


def test_the_old_version_s_memory_is_freed_after_its_last_text(slow: Running, models: Path) -> None:
    served = slow.registry.loaded("one")
    assert served is not None
    gone = weakref.ref(served.engine_model.decoder), weakref.ref(served)
    before = served.facts.digest
    del served
    with ThreadPoolExecutor() as pool:
        running = pool.submit(text, slow, **LONG)
        assert eventually(lambda: slow.engine.running == 1)
        save(checkpoint(2), models / "one")
        assert swapped(slow, before)
        assert gone[0]() is not None
        running.result()
    assert eventually(lambda: [one() for one in gone] == [None, None], seconds=20)
    assert slow.client.get("/health").json()["models"]["bytes"] == sum(
        entry.served.nbytes for entry in slow.registry if entry.served is not None
    )


def truncated(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(1000)


def foreign(folder: Path) -> None:
    (folder / CONFIG).write_text('{"architectures": ["LlamaForCausalLM"]}')


def damaged(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-20] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def other_tokenizer(folder: Path) -> None:
    (folder / TOKENIZER).write_text("{}")


def linked(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/etc/passwd")


def pipe(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


@pytest.mark.parametrize("spoil", [truncated, foreign, damaged, other_tokenizer, linked, pipe])
def test_a_replacement_that_fails_its_checks_is_refused(
    spoil: Callable[[Path], None], server: Running, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = Reference(models / "one").write(**FIELDS).text
    before = digest(server)
    save(checkpoint(2), models / ".next")
    spoil(models / ".next")
    (models / "one").rename(models / ".aside")
    (models / ".next").rename(models / "one")
    assert eventually(lambda: "one" in server.client.get("/health").json()["models"]["problems"], seconds=20)
    sentence = server.client.get("/health").json()["models"]["problems"]["one"]
    assert sentence.startswith("The checkpoint of 'one' is refused: ")
    assert sentence.endswith("The version before is served on.")
    assert sentence in caplog.text
    assert 'unroll_model_refusals_total{model="one"} 1.0' in server.client.get("/metrics").text
    assert server.client.get("/health").status_code == 200
    assert digest(server) == before
    assert text(server) == old
    save(checkpoint(3), models / "one2")
    shutil.rmtree(models / "one")
    (models / "one2").rename(models / "one")
    assert swapped(server, before)
    assert server.client.get("/health").json()["models"]["problems"] == {}


def test_a_refusal_is_over_once_the_version_before_is_put_back(server: Running, models: Path) -> None:
    def problems() -> dict[str, str]:
        told: dict[str, str] = server.client.get("/health").json()["models"]["problems"]
        return told

    before = digest(server)
    save(checkpoint(2), models / ".next")
    truncated(models / ".next")
    (models / "one").rename(models / ".aside")
    (models / ".next").rename(models / "one")
    assert eventually(lambda: "one" in problems(), seconds=20)
    shutil.rmtree(models / "one")
    (models / ".aside").rename(models / "one")
    assert eventually(lambda: problems() == {}, seconds=20)
    assert digest(server) == before
    assert text(server) == Reference(models / "one").write(**FIELDS).text


def test_a_checkpoint_that_is_refused_from_the_first_is_told_of(server: Running, models: Path) -> None:
    shutil.copytree(models / "one", models / "two")
    truncated(models / "two")
    assert eventually(lambda: "two" in server.client.get("/health").json()["models"]["problems"], seconds=20)
    assert "served on" not in server.client.get("/health").json()["models"]["problems"]["two"]
    assert server.client.get("/v1/models/two").status_code == 404
    shutil.rmtree(models / "two")
    assert eventually(lambda: server.client.get("/health").json()["models"]["problems"] == {}, seconds=20)


def test_a_half_written_folder_is_never_served(
    server: Running, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied in place, file after file and a piece at a time, while requests go on.

    It counts as quiet once it is whole, however long a busy machine takes from one piece to the next.
    """
    monkeypatch.setattr(folder_watch, "QUIET_SECONDS", 3600)
    save(checkpoint(2), tmp_path / "next")
    texts = {Reference(models / "one").write(**FIELDS).text, Reference(tmp_path / "next").write(**FIELDS).text}
    before, stop, seen = digest(server), threading.Event(), list[str]()

    def ask() -> None:
        while not stop.is_set():
            seen.append(text(server))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for name in (WEIGHTS, TOKENIZER, CONFIG):
            content = (tmp_path / "next" / name).read_bytes()
            with (models / "one" / name).open("wb") as file:
                for at in range(0, len(content), max(1, len(content) // 5)):
                    file.write(content[at : at + max(1, len(content) // 5)])
                    file.flush()
                    stop.wait(0.03)
        assert digest(server) == before
        monkeypatch.setattr(folder_watch, "QUIET_SECONDS", 0.3)
        assert swapped(server, before)
        expected = Reference(models / "one").write(**FIELDS).text
        assert eventually(lambda: seen[-1] == expected, seconds=20)
    finally:
        stop.set()
        asking.join()
    assert set(seen) == texts
    assert server.registry.refusals.total() == 0


def test_a_state_and_an_event_of_a_model_that_is_gone_are_409_and_name_what_is_served(
    server: Running, models: Path
) -> None:
    save(checkpoint(5), models / "two")
    assert eventually(lambda: server.client.get("/v1/models/two").status_code == 200)
    asked = {**FIELDS, "model": "two", "return_state": True}
    state = server.client.post("/v1/completions", json=asked).json()["choices"][0]["state"]
    stream = {**FIELDS, "model": "two", "stream": True}
    events = server.client.post("/v1/completions", json=stream).text
    event = events.split("id: ")[1].split("\n")[0]
    shutil.rmtree(models / "two")
    assert eventually(lambda: server.client.get("/v1/models/two").status_code == 404)
    for path, body, headers in (
        ("/v1/completions", {**FIELDS, "model": "two", "state": state}, {}),
        ("/v1/score", {"texts": "a", "model": "two", "state": state}, {}),
        ("/generate", {"inputs": "", "model": "two", "parameters": {"state": state}}, {}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "model": "two", "state": state}, {}),
        ("/v1/completions", stream, {"Last-Event-ID": event}),
    ):
        gone = server.client.post(path, json=body, headers=headers)
        assert gone.status_code == 409, path
        assert "'one'" in gone.text


def test_a_run_counts_by_its_best_also_while_it_trains(server: Running, models: Path) -> None:
    for seed in (2, 3):
        before = digest(server, "run")
        save(checkpoint(seed + 10), models / "run" / "last")
        save(checkpoint(seed), models / "run" / "best")
        assert swapped(server, before, "run")
        assert text(server, model="run") == Reference(models / "run" / "best").write(**FIELDS).text


def test_look_now_reads_also_what_was_named_at_the_start(models: Path, tmp_path: Path) -> None:
    save(checkpoint(2), tmp_path / "named")
    with serving(Settings(checkpoint=tmp_path / "named", models=models)) as server:
        before, one = digest(server, "named"), digest(server, "one")
        save(checkpoint(3), tmp_path / "named")
        save(checkpoint(4), models / "one")
        assert swapped(server, one, "one")
        assert digest(server, "named") == before
        server.registry.look_now()
        assert swapped(server, before, "named")


def test_a_signal_reads_what_was_named_at_the_start(tmp_path: Path) -> None:
    save(checkpoint(1), tmp_path / "named")
    with (
        serving_process(str(tmp_path / "named"), "--port", "0") as (process, url),
        httpx.Client(base_url=url) as client,
    ):
        before = client.get("/v1/models/named").json()["digest"]
        save(checkpoint(2), tmp_path / "named")
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: client.get("/v1/models/named").json()["digest"] != before, seconds=20)
        answer = client.post("/v1/completions", json=FIELDS).json()
        assert answer["choices"][0]["text"] == Reference(tmp_path / "named").write(**FIELDS).text


def test_the_same_version_again_is_no_swap(server: Running, models: Path) -> None:
    served = server.registry.loaded("one")
    save(checkpoint(1), models / "one")
    save(checkpoint(2), models / "two")
    assert swapped(server, None, "two")
    assert server.registry.loaded("one") is served


def test_a_server_starts_with_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with serving(Settings(models=tmp_path / "models", alias="gpt=later")) as server:
        assert server.client.get("/v1/models").json()["data"] == []
        refused = server.client.post("/v1/completions", json=FIELDS)
        assert refused.status_code == 404
        assert refused.json()["error"]["message"] == "The default model is not there; this server has none."
        assert "model" not in server.client.get("/health").json()
        save(checkpoint(2), tmp_path / "models" / "gpt")
        assert eventually(lambda: "gpt" in server.client.get("/health").json()["models"]["problems"], seconds=20)
        save(checkpoint(1), tmp_path / "models" / "later")
        assert swapped(server, None, "later")
        for asked in (None, "gpt", "later"):
            assert text(server, model=asked) == Reference(tmp_path / "models" / "later").write(**FIELDS).text
