"""Logs are a line for each message whatever stands in it, say nothing of what was asked, and stop nobody."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from service.api.error_responses import ErrorResponses
from service.engine.engine import Engine
from service.models.model_registry import ModelRegistry
from service.monitoring.access_log import AccessLog
from service.monitoring.logs import LONGEST, QUEUED, JsonFormatter, LogHandler, TextFormatter
from service.monitoring.metrics import Metrics
from service.process.ledger import Ledger
from service.request_context import REQUEST_ID
from service.settings import Settings
from tests.service.serving import ENDLESS, Running, eventually, serving_process

COMPLETIONS = "/v1/completions"
ANYTHING = st.text(st.characters(codec=None), max_size=50)
FORGED = "\n2026-01-01T00:00:00.000Z INFO service.access: forged\x1b[2J\u2028\u202e\x85"


def record(message: str, error: BaseException | None = None, **fields: Any) -> logging.LogRecord:
    """A message as logging makes it."""
    about = None if error is None else (type(error), error, None)
    made = logging.LogRecord("service.test", logging.INFO, "", 0, "%s", (message,), about)
    made.fields = fields
    return made


@given(ANYTHING, ANYTHING, ANYTHING)
def test_json_is_one_line_that_says_all(message: str, field: str, error: str) -> None:
    line = JsonFormatter().format(record(message, ValueError(error), path=field))
    assert line.isascii()
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    said = json.loads(line)
    assert (said["message"], said["path"], said["level"], said["logger"]) == (message, field, "info", "service.test")
    assert said["exception"].startswith("ValueError")
    assert error.rstrip("\n") in said["exception"]
    assert set(said) == {"time", "level", "logger", "message", "path", "exception"}


@given(ANYTHING, ANYTHING)
def test_text_is_one_line_and_a_traceback_is_indented(message: str, error: str) -> None:
    head, *trace = TextFormatter().format(record(message, ValueError(error + FORGED))).split("\n")
    assert head.isprintable()
    assert trace
    for line in trace:
        assert line.startswith("    ")
        assert line.isprintable()


def test_time_is_rfc_3339_in_utc() -> None:
    made = record("said")
    made.created = 1_767_225_599.9876
    assert json.loads(JsonFormatter().format(made))["time"] == "2025-12-31T23:59:59.987Z"
    assert TextFormatter().format(made) == "2025-12-31T23:59:59.987Z INFO service.test: said"


def test_a_message_bears_the_name_of_its_request() -> None:
    token = REQUEST_ID.set("name-1")
    try:
        assert json.loads(JsonFormatter().format(record("said")))["request_id"] == "name-1"
        assert TextFormatter().format(record("said")).endswith(": said [name-1]")
    finally:
        REQUEST_ID.reset(token)


def test_long_messages_are_cut() -> None:
    line = JsonFormatter().format(record("\x00" * 1_000_000, ValueError("é" * 1_000_000)))
    assert len(line) < 13 * LONGEST


def lines_of(descriptor: int) -> list[bytes]:
    """All lines of a pipe whose other end is closed."""
    with os.fdopen(descriptor, "rb") as file:
        return file.read().splitlines()


def test_lines_come_in_order() -> None:
    reading, writing = os.pipe()
    handler = LogHandler(writing, logging.Formatter("%(message)s"))
    os.close(writing)  # the handler has a number of its own
    for number in range(1_000):
        handler.handle(record(str(number)))
    handler.close()
    assert lines_of(reading) == [str(number).encode() for number in range(1_000)]
    assert handler.failures == 0


def test_nobody_waits_for_a_pipe_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    handler = LogHandler(writing, logging.Formatter("%(message)s"))
    os.close(writing)
    began = time.monotonic()
    for _ in range(3 * QUEUED):
        handler.handle(record("x" * 1_000))
    assert time.monotonic() - began < 5
    assert handler.failures > QUEUED / 2
    os.close(reading)
    assert eventually(lambda: handler.failures >= 3 * QUEUED - 100)  # but for those that fit into the pipe
    handler.close()


def test_lines_for_a_full_disk_are_counted_and_the_next_ones_are_tried() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    handler = LogHandler(full, logging.Formatter("%(message)s"))
    os.close(full)
    for _ in range(3):
        handler.handle(record("said"))
    handler.close()
    assert handler.failures == 3


def test_after_a_line_that_was_torn_the_next_is_whole() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    handler = LogHandler(writing, logging.Formatter("%(message)s"))
    os.close(writing)
    long = "x" * 100_000  # more than a pipe holds
    handler.handle(record(long))
    handler.flush()
    torn = os.read(reading, 200_000)
    handler.handle(record("whole"))
    handler.close()
    assert torn
    assert long.encode().startswith(torn)
    assert lines_of(reading) == [b"", b"whole"]
    assert handler.failures == 1


def test_a_descriptor_that_is_closed_costs_the_lines_alone() -> None:
    handler = LogHandler(1_000_000, logging.Formatter("%(message)s"))
    handler.handle(record("said"))
    handler.close()
    assert handler.failures == 1


Answered = Callable[[str], dict[str, Any]]


@pytest.fixture
def answered(caplog: pytest.LogCaptureFixture) -> Answered:
    """What the access log says of the request with a name."""
    caplog.set_level(logging.INFO, "service.access")

    def look(name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [one.fields for one in caplog.records if getattr(one, "request", "") == name]  # type: ignore[attr-defined]
            return bool(found)

        assert eventually(there)
        assert len(found) == 1
        return found[0]

    class Named(logging.Filter):
        """Notes the request's name where the message is made."""

        def filter(self, record: logging.LogRecord) -> bool:
            record.request = REQUEST_ID.get()
            return True

    caplog.handler.addFilter(Named())
    return look


def test_an_answer_is_logged_with_what_became_of_it(server: Running, answered: Answered) -> None:
    fields = {"prompt": "ab", "seed": 1}
    response = server.client.post(f"{COMPLETIONS}?key=secret", json=fields, headers={"X-Request-Id": "one"})
    said = answered("one")
    assert 0 < said.pop("seconds") < 60
    assert said == {
        "method": "POST",
        "path": COMPLETIONS,
        "route": COMPLETIONS,
        "status": 200,
        "bytes": len(response.content),
        "client": "127.0.0.1",
        "key": None,
        "aborted": False,
    }
    streamed = server.client.post(COMPLETIONS, json={**fields, "stream": True, "request_id": "two"})
    said = answered("two")
    assert (said["aborted"], said["bytes"]) == (False, len(streamed.content))


def test_a_path_is_logged_without_end(server: Running, answered: Answered) -> None:
    server.client.get("/%0a" + "x" * 5_000, headers={"X-Request-Id": "long"})
    said = answered("long")
    assert (said["path"], said["route"], said["status"]) == ("/\n" + "x" * 198, "other", 404)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_given_up_is_logged_so(stream: bool, slow_server: Running, answered: Answered) -> None:
    fields = {"prompt": "a", "max_tokens": ENDLESS, "stream": stream}
    headers = {"X-Request-Id": "gone"}
    timeout = httpx.Timeout(10, read=10 if stream else 0.5)
    try:
        with slow_server.client.stream("POST", COMPLETIONS, json=fields, headers=headers, timeout=timeout) as response:
            next(response.iter_raw())
    except httpx.ReadTimeout:
        assert not stream
    said = answered("gone")
    assert (said["aborted"], said["status"]) == (True, 200 if stream else 499)
    assert eventually(lambda: slow_server.engine.running == 0)


def test_probes_are_logged_only_when_they_fail(
    slow_server: Running, answered: Answered, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/health", "/metrics"):
        assert slow_server.client.get(path).status_code == 200
    slow_server.engine.drain()
    assert slow_server.client.get("/health", headers={"X-Request-Id": "bad"}).status_code == 503
    assert answered("bad")["status"] == 503
    assert len([one for one in caplog.records if one.name == "service.access"]) == 1


def test_a_mistake_of_our_own_has_a_name_and_is_counted(checkpoint_folder: Path, answered: Answered) -> None:
    settings = Settings(checkpoint=checkpoint_folder)
    engine = Engine(settings)
    metrics = Metrics(ModelRegistry(settings, engine), engine, Ledger(1 << 20), lambda: True)
    app = FastAPI()
    ErrorResponses({}).install(app)

    async def broken() -> None:
        raise RuntimeError("secret words")

    app.add_api_route("/broken", broken)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(AccessLog(app, metrics, {"/broken"}, True), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/broken", headers={"X-Request-Id": "mistake"})

    response = asyncio.run(ask())
    assert response.status_code == 500
    assert response.headers["X-Request-Id"] == "mistake"
    assert "secret" not in response.text
    assert answered("mistake")["status"] == 500
    assert metrics.requests == {("/broken", 500): 1}


@pytest.fixture(scope="module")
def said(checkpoint_folder: Path) -> dict[str, list[str]]:
    """Standard error of servers in each format that were asked the same, by format."""
    heard: dict[str, list[str]] = {}
    for form, extra in (("json", "--no-log-prompts"), ("text", "--log-prompts")):
        arguments = (str(checkpoint_folder), "--port", "0", "--log-format", form, extra)
        with serving_process(*arguments) as (process, url):
            for path in ("/health", "/metrics", "/%0aforged%1b"):
                httpx.get(url + path)
            httpx.post(url + COMPLETIONS, json={"prompt": "hidden\nwords"}, headers={"X-Request-Id": "asked"})
            process.terminate()
            assert process.wait(10) == 0
            assert process.stderr is not None
            heard[form] = process.stderr.read().split("\n")
    return heard


def test_every_line_of_the_program_s_log_is_json(said: dict[str, list[str]]) -> None:
    *lines, end = said["json"]
    assert end == ""
    parsed = [json.loads(line) for line in lines]
    asked = [one for one in parsed if one["logger"] == "service.access"]
    assert [(one["path"], one["status"]) for one in asked] == [("/\nforged\x1b", 404), (COMPLETIONS, 200)]
    assert asked[1]["request_id"] == "asked"
    assert any(one["message"].startswith("Stopping") for one in parsed)
    assert "hidden" not in "".join(lines)


def test_text_has_a_line_for_each_message_and_prompts_only_if_wanted(said: dict[str, list[str]]) -> None:
    *lines, end = said["text"]
    assert end == ""
    assert all(line[:4].isdigit() and line.isprintable() for line in lines)
    (prompt,) = [line for line in lines if "hidden" in line]
    assert "service.inference.texts: Asked" in prompt
    assert prompt.endswith("[asked]")


def test_a_log_that_nobody_reads_any_more_stops_nobody(checkpoint_folder: Path) -> None:
    with serving_process(str(checkpoint_folder), "--port", "0") as (process, url):
        assert process.stderr is not None
        process.stderr.close()
        for _ in range(5):
            assert httpx.post(url + COMPLETIONS, json={"prompt": "a"}).status_code == 200
        assert eventually(lambda: "unroll_log_failures_total 5.0" in httpx.get(url + "/metrics").text)
        process.terminate()
        assert process.wait(10) == 0
