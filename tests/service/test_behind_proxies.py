"""Behind proxies and for pages of browsers: a prefix, an idle time, and what browsers ask before they send."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.error_cases import check
from tests.service.raw_client import asking, connected, rest
from tests.service.serving import Running, serving

KEY = "k" * 32
PAGE = "https://app.example"


@pytest.fixture(scope="module")
def prefixed(checkpoint_folder: Path) -> Iterator[Running]:
    """A server that a proxy has at /llm, with a key."""
    with serving(Settings(checkpoint=checkpoint_folder, root_path="/llm/", api_keys=KEY)) as running:
        running.client.headers["Authorization"] = f"Bearer {KEY}"
        yield running


@pytest.mark.parametrize("prefix", ["", "/llm"])
def test_a_proxy_may_cut_the_prefix_off_or_leave_it(prefix: str, prefixed: Running) -> None:
    client = prefixed.client
    for path in ("/health", "/health/ready", "/metrics", "/v1/models", "/v1/models/small", "/info", "/docs"):
        assert client.get(prefix + path).status_code == 200
        assert client.head(prefix + path).status_code == 200
    assert client.get(f"{prefix}/static-offline-docs/favicon.png").headers["content-type"] == "image/png"
    assert client.post(f"{prefix}/v1/completions", json={"prompt": "a"}).status_code == 200
    assert client.options(f"{prefix}/v1/completions").headers["allow"] == "OPTIONS, POST"
    check(client.get(f"{prefix}/v1/completions"), 405)
    check(client.get(f"{prefix}/none"), 404)
    wrong = client.post(f"{prefix}/generate", json={})
    assert (wrong.status_code, wrong.json()["error_type"]) == (422, "validation")  # in the dialect of its route


def test_links_of_the_documentation_have_the_prefix(prefixed: Running) -> None:
    page = prefixed.client.get("/docs").text
    assert "/llm/openapi.json" in page
    assert "/llm/static-offline-docs/swagger-ui.css" in page
    assert prefixed.client.get("/openapi.json").json()["servers"] == [{"url": "/llm"}]


def test_without_a_prefix_nothing_has_one(server: Running) -> None:
    assert "servers" not in server.client.get("/openapi.json").json()
    check(server.client.get("/llm/version"), 404)


@pytest.mark.parametrize("path", ["/llm", "/llm/"])
def test_the_prefix_alone_is_the_root(path: str, prefixed: Running) -> None:
    answer = prefixed.client.post(path, json={"inputs": "a", "parameters": {"max_new_tokens": 2}})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/llmx/version", "/LLM/version", "/llm/llm/version", "/x/llm/version"])
def test_what_only_looks_like_the_prefix_is_none(path: str, prefixed: Running) -> None:
    check(prefixed.client.get(path), 404)


def test_the_prefix_opens_no_route_that_needs_a_key(prefixed: Running) -> None:
    for path in ("/llm/v1/models", "/llm/docs", "/llm/metrics", "/llm/llm/health"):
        assert httpx.get(prefixed.url + path).status_code == 401
    assert httpx.get(prefixed.url + "/llm/health/live").status_code == 200


def test_a_connection_is_kept_longer_than_proxies_keep_theirs() -> None:
    """Nginx keeps one for 60 seconds; where the server closes first, a request may be on its way, which is a 502."""
    assert Settings().idle_seconds >= 75


def test_an_idle_connection_is_kept_as_long_as_the_settings_say(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, idle_seconds=0.3)) as running, connected(running) as client:
        client.sendall(asking("/version"))
        assert rest(client).startswith(b"HTTP/1.1 200 OK")  # and then it ends


@pytest.fixture(scope="module")
def anybody(checkpoint_folder: Path) -> Iterator[Running]:
    """A server for pages of any site, with a key."""
    with serving(Settings(checkpoint=checkpoint_folder, cors_origins="*", api_keys=KEY)) as running:
        yield running


OPENAI_FOR_JAVASCRIPT = (
    "authorization,content-type,openai-organization,openai-project,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,"
    "x-stainless-timeout"
)


def preflight(running: Running, **more: str) -> httpx.Response:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", **more}
    return running.client.options("/v1/completions", headers=asked)


def test_any_header_may_be_sent_by_a_page(anybody: Running) -> None:
    answer = preflight(anybody, **{"Access-Control-Request-Headers": OPENAI_FOR_JAVASCRIPT})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-headers"] == OPENAI_FOR_JAVASCRIPT
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]


def test_a_page_of_the_internet_may_ask_for_a_server_of_the_private_network(anybody: Running) -> None:
    answer = preflight(anybody, **{"Access-Control-Request-Private-Network": "true"})
    assert (answer.status_code, answer.headers["access-control-allow-private-network"]) == (200, "true")


@pytest.mark.parametrize(
    ("path", "body", "status", "headers"),
    [
        ("/v1/completions", {"prompt": "a", "mirostat": 2}, 200, ("x-request-id", "x-unroll-ignored-fields")),
        ("/generate", {"inputs": "a"}, 200, ("x-request-id", "x-prompt-tokens", "x-generated-tokens")),
        ("/v1/completions", {"prompt": 1}, 400, ("x-request-id",)),
        ("/none", {}, 404, ("x-request-id",)),
    ],
)
def test_a_page_reads_answers_and_our_headers(
    path: str, body: Any, status: int, headers: tuple[str, ...], anybody: Running
) -> None:
    answer = anybody.client.post(path, json=body, headers={"Origin": PAGE, "Authorization": f"Bearer {KEY}"})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
    assert set(headers) <= set(answer.headers) & set(exposed)


@pytest.mark.parametrize("origin", ["null", "tauri://localhost", "file://", "chrome-extension://abc"])
def test_a_page_without_an_origin_of_the_web_is_a_page_too(origin: str, anybody: Running, server: Running) -> None:
    """Apps in a web view, and files, send such; without CORS the header changes nothing."""
    assert preflight(anybody, Origin=origin).headers["access-control-allow-origin"] == "*"
    answer = server.client.post("/v1/completions", json={"prompt": "a"}, headers={"Origin": origin})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_a_page_reads_why_it_is_refused(anybody: Running) -> None:
    answer = anybody.client.post("/v1/completions", json={"prompt": "a"}, headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "*")
