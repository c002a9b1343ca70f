"""Property P14: every route needs a key unless it is on the public list; who holds one, and from where, is checked."""

import hashlib
import os
import signal
import stat
import statistics
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_application
from service.errors import SettingsError
from service.security.api_keys import ApiKeys
from service.security.auth import PUBLIC, host_name
from service.settings import Settings
from tests.service.serving import Running, eventually, serving, serving_process

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


def test_comparing_takes_as_long_however_much_of_a_key_is_right() -> None:
    """The comparison is of digests, so what is near a key is not near its digest; here with every key looked at."""
    keys = ApiKeys(Settings(api_keys=",".join(f"{number:032}" for number in range(200))))

    def seconds(text: str) -> float:
        times = []
        for _ in range(400):
            started = time.perf_counter()
            keys.holder(text)
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    first, last, none = seconds(f"{0:032}"), seconds(f"{199:032}"), seconds("x" * 32)
    assert max(first, last, none) < 2 * min(first, last, none)


def test_keys_stand_in_files_plain_or_hashed_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    path.write_text(f"# ours\n\n{KEY}\n  batch  sha256:{digest.upper()}\n")
    keys = ApiKeys(Settings(api_keys=UNKNOWN, api_keys_file=path))
    first, second, third = (keys.holder(key) for key in (KEY, OTHER, UNKNOWN))
    assert second is not None
    assert second.label == "batch"
    assert first is not None
    assert third is not None
    assert len({first.label, second.label, third.label}) == 3
    assert keys.holder("x" * 32) is None
    assert KEY not in repr(vars(keys))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_keys_stand_in_files_as_any_editor_writes_them(tmp_path: Path, end: str) -> None:
    path = tmp_path / "keys"
    lines = [KEY, f"team  SHA256:{hashlib.sha256(OTHER.encode()).hexdigest()}", "# the end", ""]
    path.write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
    keys = ApiKeys(Settings(api_keys_file=path))
    other = keys.holder(OTHER)
    assert keys.holder(KEY) is not None
    assert ApiKeys(Settings(api_keys="shaken-not-stirred,md5isnodigestofthis,sha256isnoneeither")).needed
    assert other is not None
    assert other.label == "team"
    assert [keys.holder(line) for line in ("\ufeff" + KEY, KEY + "\r", lines[1], lines[1].split()[1])] == [None] * 4


def test_only_a_regular_file_holds_keys_and_a_pipe_keeps_nobody_waiting(
    checkpoint_folder: Path, tmp_path: Path
) -> None:
    pipe, path = tmp_path / "pipe", tmp_path / "keys"
    os.mkfifo(pipe)
    for place in (pipe, Path("/dev/zero")):
        with pytest.raises(SettingsError, match="is no regular file; name a file of keys"):
            ApiKeys(Settings(api_keys_file=place))
    path.symlink_to(tmp_path / "real")  # as Kubernetes mounts a secret
    (tmp_path / "real").write_text(KEY)
    with serving_process(str(checkpoint_folder), "--port", "0", UNROLL_API_KEYS_FILE=str(path)) as (process, url):
        path.unlink()
        path.symlink_to(pipe)
        process.send_signal(signal.SIGHUP)
        for _ in range(20):
            assert httpx.get(f"{url}/v1/models", headers=bearer(KEY), timeout=5).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert "The keys stay as they were." in errors
    assert "is no regular file" in errors


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"api_keys": "short"},
        r"^--api-keys or UNROLL_API_KEYS: a key is shorter than 16 characters; make one with `openssl rand -hex 32`",
    ),
    ({"api_keys": " , "}, "^--api-keys or UNROLL_API_KEYS holds no key; make one"),
    ({"file": b""}, "holds no key; make one"),
    ({"file": b"# nothing\n"}, "holds no key"),
    ({"file": b"\n" + KEY.encode() + b"\nshort\n"}, "line 3: a key is shorter"),
    ({"file": b"my label " + KEY.encode()}, "line 1: a label is"),
    ({"file": b"\xff\xfe" * 40}, "it is not UTF-8"),
    ({"file": b"#" * (1 << 20) + b"##"}, "larger than 1,048,576 bytes"),
    ({"file": None}, "No such file"),
    (
        {"file": KEY.encode() + b"\nSHA256:" + DIGEST[:63].encode()},
        "keys, line 2: this looks like a digest and is none",
    ),
    ({"file": b"sha256:" + DIGEST[:63].encode()}, "looks like a digest and is none; write sha256: and the 64"),
    ({"file": b"sha256:" + DIGEST.encode() + b"0"}, "looks like a digest"),
    ({"file": b"sha256:" + DIGEST.encode()[:-1] + b"g"}, "looks like a digest"),
    ({"file": b"sha256=" + DIGEST.encode()}, "looks like a digest"),
    ({"file": b"sha-256:" + DIGEST.encode()}, "looks like a digest"),
    ({"file": b"Sha512:" + DIGEST.encode() * 2}, "looks like a digest"),
    ({"file": b"{SHA256}" + DIGEST.encode()}, "looks like a digest"),
    ({"file": b"$2b$12$" + b"a" * 53}, "looks like a digest"),
    ({"file": b"sha256 " + DIGEST.encode()}, "looks like a digest"),
    ({"file": b"sha256: " + DIGEST.encode()}, "line 1: a label is"),
    ({"file": DIGEST.encode() + b"  the-file-of-a-key.txt"}, "looks like a digest"),
    ({"file": KEY.encode() + b" #this-is-a-comment"}, "begins with no #"),
    ({"file": KEY.encode() + "\u200b".encode()}, "line 1: a key is of ASCII letters"),
    ({"file": (KEY + "\n").encode("utf-16-le")}, "a key is of ASCII letters"),
    *(
        (
            {"file": KEY.encode() + between.encode() + OTHER.encode()},
            "keys, line 1: a line break that is no newline; write",
        )
        for between in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
    ),
    *(
        (
            {"file": KEY.encode() + b"\n" + KEY.encode() + between.encode() + OTHER.encode()},
            "keys, line 2: a label is up",
        )
        for between in ("\t", " ", "   ")
    ),
    *(
        ({"file": KEY.encode() + between + OTHER.encode()}, "line 1: a key has none of .*; write one key a line")
        for between in (b",", b";", b":", b"|", b"=")
    ),
    *(
        ({"file": KEY.encode() + between.encode() + OTHER.encode()}, "line 1: a key is of ASCII letters")
        for between in "\u00a0\u2003\u3000\x00"
    ),
    ({"file": b"lab:" + KEY.encode()}, "line 1: a key has none of"),
    ({"file": b'"' + KEY.encode() + b'"'}, "line 1: a key (is of ASCII|has none)"),
    ({"file": b"Bearer " + KEY.encode()}, "line 1: the name of a header or scheme .*; write the key alone"),
    ({"file": b"Authorization: Bearer " + KEY.encode()}, "line 1: a label is"),
    ({"api_keys": f"lab:{KEY}"}, "^--api-keys or UNROLL_API_KEYS: a key has none of"),
    ({"api_keys": "SHA256:" + DIGEST[:40]}, "^--api-keys or UNROLL_API_KEYS: this looks like a digest"),
]


@pytest.mark.parametrize(("given", "sentence"), BAD)
def test_what_is_no_key_is_refused_before_anything_is_served(
    tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "keys"
    if given.get("file") is not None:
        path.write_bytes(given["file"])
    settings = Settings(api_keys_file=path) if "file" in given else Settings(**given)
    with pytest.raises(SettingsError, match=sentence):
        ApiKeys(settings)


def test_keys_change_on_sighup_and_a_broken_file_changes_nothing(checkpoint_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEY)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with serving_process(str(checkpoint_folder), "--port", "0", UNROLL_API_KEYS_FILE=str(path)) as (process, url):

        def allowed(key: str) -> bool:
            return httpx.get(f"{url}/v1/models", headers=bearer(key)).status_code == 200

        assert (allowed(KEY), allowed(OTHER)) == (True, False)
        path.write_text(OTHER)
        assert allowed(KEY)
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: allowed(OTHER))
        assert not allowed(KEY)
        path.write_text("short")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert allowed(OTHER)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert "The keys stay as they were." in errors
    assert KEY not in errors
    assert OTHER not in errors


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
