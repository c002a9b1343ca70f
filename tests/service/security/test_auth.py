"""Property P14: every route needs a key unless it is on the public list; who holds one, and from where, is checked."""

import asyncio
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.error_responses import ErrorResponses
from service.app import create_application
from service.request_context import LEAVING, begin_request
from service.security.api_keys import ApiKeys
from service.security.auth import PUBLIC, Auth, host_name
from service.security.caller_pace import CallerPace
from service.settings import Settings
from tests.service.serving import Running, serving, serving_process

KEY, OTHER, UNKNOWN = "k" * 32, "o" * 32, "u" * 32
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def locked(checkpoint_folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=checkpoint_folder, api_keys=f"{KEY},{OTHER}")) as running:
        yield running


def routes_of(settings: Settings) -> list[tuple[str, str]]:
    """Every method and path the application has, as it says itself; also those its description leaves out."""
    found: list[tuple[str, str]] = []
    unseen: list[Any] = list(create_application(settings).asgi.routes)
    while unseen:
        route = unseen.pop()
        if hasattr(route, "original_router"):  # a router as FastAPI includes it
            unseen += route.original_router.routes
        else:
            path = route.path.replace("{model:path}", "small")
            found += [(method, path) for method in sorted(getattr(route, "methods", None) or {"GET"})]
    return found


def test_p14_every_route_needs_a_key_unless_it_is_public(locked: Running, checkpoint_folder: Path) -> None:
    routes = routes_of(Settings(checkpoint=checkpoint_folder))
    paths = {path for _, path in routes}
    assert {"/v1/completions", "/generate", "/tokenize", "/v1/score", "/docs", "/openapi.json", *PUBLIC} <= paths
    opened = set()
    for method, path in [*routes, ("GET", "/no/such/route"), ("OPTIONS", "/v1/completions"), ("POST", "/health")]:
        status = locked.client.request(method, path).status_code
        if status != 401:
            opened.add((method, path))
    assert opened == {("GET", path) for path in PUBLIC} | {
        ("HEAD", path) for path in PUBLIC if ("HEAD", path) in routes
    }


@pytest.mark.parametrize(
    "path",
    [
        "/health/live/../../v1/models",
        "//v1/models",
        "/health/live/",
        "/Health/live",
        "/health/live%2f..%2f..%2fv1/models",
        "/health/live;/v1/models",
        "/%2e%2e/v1/models",
        "/v1/models?/health/live",
        "/v1/models#/health/live",
    ],
)
def test_p14_no_spelling_of_a_path_passes_for_a_public_one(locked: Running, path: str) -> None:
    connection = HTTPConnection("127.0.0.1", httpx.URL(locked.url).port, timeout=10)
    connection.request("GET", path)  # as it is, where httpx would tidy it up
    assert connection.getresponse().status == 401
    connection.close()


def test_p14_headers_that_claim_another_path_change_nothing(locked: Running) -> None:
    for name in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Path", "X-HTTP-Method-Override"):
        assert locked.client.get("/v1/models", headers={name: "/health/live"}).status_code == 401


GIVEN: list[tuple[dict[str, str], int]] = [
    ({}, 401),
    (bearer(KEY), 200),
    (bearer(OTHER), 200),
    ({"Authorization": f"bearer   {KEY}"}, 200),
    ({"X-API-Key": KEY}, 200),
    (bearer(UNKNOWN), 401),
    (bearer(KEY[:-1]), 401),
    (bearer(KEY + "k"), 401),
    (bearer(KEY.upper()), 401),
    ({"Authorization": "Bearer"}, 401),
    (bearer(f"{KEY},{OTHER}"), 401),
    ({"Authorization": KEY}, 401),
    ({"Authorization": f"Basic {KEY}"}, 401),
    ({"Authorization": f"Basic {UNKNOWN}", "X-API-Key": UNKNOWN}, 401),
    (bearer(hashlib.sha256(KEY.encode()).hexdigest()), 401),
]


@pytest.mark.parametrize(("headers", "status"), GIVEN)
def test_a_key_is_taken_as_clients_send_it_and_nothing_else_is(
    locked: Running, headers: dict[str, str], status: int
) -> None:
    answer = locked.client.get("/v1/models", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert KEY not in answer.text
        assert UNKNOWN not in answer.text


def test_a_refusal_speaks_the_dialect_of_its_route(locked: Running) -> None:
    answer = locked.client.post("/generate", json={"inputs": "a"})
    assert answer.status_code == 401
    assert set(answer.json()) == {"error", "error_type"}


def test_a_key_writes_text(locked: Running) -> None:
    answer = locked.client.post("/v1/completions", json={"prompt": "a", "max_tokens": 5}, headers=bearer(KEY))
    assert len(answer.json()["choices"][0]["text"]) == 5


def test_keys_are_masked_and_never_in_the_log(checkpoint_folder: Path) -> None:
    with serving_process(str(checkpoint_folder), "--port", "0", UNROLL_API_KEYS=KEY) as (process, url):
        httpx.get(f"{url}/v1/models", headers=bearer(KEY))
        httpx.get(f"{url}/v1/models", headers=bearer(UNKNOWN))
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
    assert KEY not in output + errors
    assert UNKNOWN not in output + errors


def test_everyone_is_warned_about_only_without_keys(checkpoint_folder: Path) -> None:
    arguments = (str(checkpoint_folder), "--host", "0.0.0.0", "--port", "0")
    for more, warned in ((), True), (("--api-keys", KEY), False):
        with serving_process(*arguments, *more) as (process, _):
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        assert ("OPEN TO EVERYONE" in errors) is warned


HOSTS = [
    ("127.0.0.1:8000", "127.0.0.1"),
    ("localhost", "localhost"),
    ("LocalHost:80", "localhost"),
    ("[::1]:8000", "::1"),
    ("[::1]", "::1"),
    ("example.org.", "example.org."),
    ("", ""),
    ("a:b:c", "a:b:c"),
]


@pytest.mark.parametrize(("header", "name"), HOSTS)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


def test_a_page_elsewhere_that_points_its_name_here_gets_nothing(server: Running) -> None:
    """DNS rebinding: a browser that believes this address to be another site's sends that site's name."""
    for host, status in (("evil.example", 421), ("127.0.0.1.evil.example", 421), ("", 421), ("localhost:1", 200)):
        assert server.client.get("/v1/models", headers={"Host": host}).status_code == status
    assert server.client.get("/health/live", headers={"Host": "10.0.0.7"}).status_code == 200


def test_a_server_answers_to_the_names_it_is_given(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, allowed_hosts="api.example, Other.example")) as running:
        for host, status in (("API.example:443", 200), ("other.example", 200), ("127.0.0.1", 421), ("example", 421)):
            assert running.client.get("/v1/models", headers={"Host": host}).status_code == status
    with serving(Settings(checkpoint=checkpoint_folder, allowed_hosts="*")) as running:
        assert running.client.get("/v1/models", headers={"Host": "anything"}).status_code == 200
    assert Settings(host="0.0.0.0").hosts is None


def test_no_other_site_may_call_unless_it_is_named(server: Running, checkpoint_folder: Path) -> None:
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    answer = server.client.options("/v1/completions", headers=asked)
    assert not [name for name in answer.headers if name.startswith("access-control")]
    settings = Settings(checkpoint=checkpoint_folder, cors_origins="https://app.example", api_keys=KEY)
    with serving(settings) as running:
        answer = running.client.options("/v1/completions", headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in answer.headers
        other = running.client.options("/v1/completions", headers={**asked, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        assert running.client.get("/v1/models", headers={"Origin": "https://app.example"}).status_code == 401


@pytest.mark.parametrize("path", ["/v1/models", "/docs", "/no/such/route", "/health/live", "/openapi.json"])
def test_browsers_are_told_to_do_no_more_with_an_answer_than_it_is_for(server: Running, path: str) -> None:
    headers = server.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers
    assert ("script-src 'self'" in headers["content-security-policy"]) is (path == "/docs")


def test_a_stream_keeps_its_own_headers(server: Running) -> None:
    with server.client.stream("POST", "/v1/completions", json={"prompt": "a", "stream": True}) as answer:
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_request_can_name_no_file_and_no_address(server: Running, tmp_path: Path) -> None:
    """Whatever a client puts in a field, the server opens no file and no connection for it."""
    secret = tmp_path / "secret.txt"
    os.mkfifo(secret)  # opening it would wait for ever
    for value in (str(secret), f"file://{secret}", "http://127.0.0.1:9/x", f"FILE:{secret}", "../../etc/passwd"):
        for path, body in (
            ("/v1/completions", {"prompt": value, "max_tokens": 1}),
            ("/v1/completions", {"prompt": "a", "max_tokens": 1, "model": value}),
            ("/generate", {"inputs": value, "parameters": {"max_new_tokens": 1}}),
            ("/tokenize", {"prompt": value}),
            ("/v1/score", {"texts": [value]}),
        ):
            answer = server.client.post(path, json=body, timeout=5)
            assert answer.status_code in (200, 404), answer.text
        assert server.client.get(f"/v1/models/{value}").status_code == 404
    for route in routes_of(Settings()):
        assert not any(word in route[1] for word in ("load", "unload", "pull", "upload", "download", "import", "fetch"))


def test_probes_do_not_wait_behind_a_crowd_and_nobody_behind_clients_that_left() -> None:
    """Counted in passes of the event loop: so many requests come in one that most of them wait for their turn."""
    pace = CallerPace(lambda _: False)
    begun: list[str] = []
    leaving: list[Callable[[], None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        begun.append(scope["path"])

    async def main() -> None:
        settings = Settings()
        auth = Auth(app, ApiKeys(settings), None, ErrorResponses({}), frozenset(), pace)

        async def nothing(*_: Message) -> Any:
            raise AssertionError("nobody reads or writes")

        async def ask(path: str) -> None:
            scope: dict[str, Any] = {"type": "http", "path": path, "method": "GET", "headers": [], "client": None}
            scope[LEAVING] = leaving.append
            begin_request(scope, "id")
            await auth(scope, nothing, nothing)

        crowd = [asyncio.create_task(ask("/v1/models")) for _ in range(1_000)]
        probe = asyncio.create_task(ask("/health/live"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert probe.done()
        for leaves in list(leaving):
            leaves()
        late = asyncio.create_task(ask("/v1/late"))
        for _ in range(4):
            await asyncio.sleep(0)
        assert late.done()
        await asyncio.gather(*crowd)

    asyncio.run(main())
    assert len(begun) < 40
