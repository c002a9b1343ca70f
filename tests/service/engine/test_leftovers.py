"""Nothing of a request waits for the garbage collector, once it is answered or its client has left."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from service.analysis.score_lines import LineScores
from service.engine.output import Output
from service.engine.sequence import Sequence, SequenceGroup
from service.security.body_limit import Arriving, Turns
from service.transport.connections import Connection
from tests.load.wire import request
from tests.service.crowd import is_idle
from tests.service.raw_client import connected
from tests.service.serving import Running, eventually

HELD = (SequenceGroup, Sequence, Output, Arriving, Turns, LineScores)
BODY = {"prompt": "a", "max_tokens": 50_000, "stream": True}


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Garbage is not collected meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def nothing_is_left() -> bool:
    """Whether nothing of a request is left, nor of a connection that has ended."""
    live = gc.get_objects()
    connections = [one for one in live if isinstance(one, Connection) and one.transport is not None]
    return not any(isinstance(one, HELD) for one in live) and not any(one.transport.is_closing() for one in connections)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 5},
        {"max_tokens": 5, "n": 3, "best_of": 4},
        {"max_tokens": 5, "use_beam_search": True},
        {"max_tokens": 5, "stream": True, "n": 2},
        {"max_tokens": 0, "echo": True, "logprobs": 1},
        {"prompt": ["a", "b"], "max_tokens": 3, "return_state": True},
    ],
)
def test_an_answered_request_leaves_nothing(fields: dict[str, Any], server: Running) -> None:
    """Its prompts may be large, and are charged to nobody any more. The connection stays, and keeps nothing of it."""
    for _ in range(5):
        assert server.client.post("/v1/completions", json={"prompt": "a", **fields}).status_code == 200
    assert eventually(nothing_is_left)


@pytest.mark.parametrize("path", ["/v1/score", "/v1/inspect", "/v1/inspect/units", "/v1/inspect/influence"])
def test_scores_that_are_answered_leave_nothing(path: str, server: Running) -> None:
    fields: dict[str, Any] = {"texts": ["to be"]} if path == "/v1/score" else {"text": "to be, or not"}
    more = {"position": 3} if path.endswith("influence") else {}
    for _ in range(3):
        assert server.client.post(path, json={**fields, **more}).status_code == 200
    assert eventually(nothing_is_left)


def test_lines_that_are_answered_leave_nothing(server: Running) -> None:
    lines, headers = b'"to be"\n"or not"\n', {"Content-Type": "application/x-ndjson"}
    for _ in range(3):
        assert server.client.post("/v1/score", content=lines, headers=headers).text.count("\n") == 2
    assert eventually(nothing_is_left)


@pytest.mark.parametrize("first", [1, 0], ids=["in the middle", "before the first byte"])
@pytest.mark.parametrize("n", [1, 4])
def test_a_client_that_leaves_leaves_nothing(n: int, first: int, slow_server: Running) -> None:
    for _ in range(5):
        with connected(slow_server) as client:
            client.sendall(request("/v1/completions", {**BODY, "n": n}))
            assert not first or client.recv(1)
    assert eventually(lambda: is_idle(slow_server))
    assert eventually(nothing_is_left)


def test_a_client_that_leaves_the_queue_leaves_nothing(slow_server: Running) -> None:
    with connected(slow_server) as running:
        running.sendall(request("/v1/completions", {**BODY, "n": 4}))
        assert eventually(lambda: slow_server.engine.running == 4)
        with connected(slow_server) as waiting:
            waiting.sendall(request("/v1/completions", {**BODY, "n": 2}))
            assert eventually(lambda: slow_server.engine.waiting == 2)
    assert eventually(lambda: is_idle(slow_server))
    assert eventually(nothing_is_left)
