"""TLS: what a certificate opens, what no certificate is, and handshakes that never end."""

import shutil
import socket
import ssl
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from service.errors import SettingsError
from service.settings import Settings
from service.transport import shared_limits
from service.transport.tls import tls_context
from tests.service.raw_client import HANGS, asking, connected, rest
from tests.service.serving import ENDLESS, Running, SlowDecoder, eventually, serving
from tests.service.taking import fill, taken

OPENSSL = shutil.which("openssl")

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="there is no openssl here to make certificates with")


def make_certificate(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    """A certificate of this machine's own, signed by itself, and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        [
            *(str(OPENSSL), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost", "-addext", names),
            *(options or ("-nodes",)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def certificate(folder: Path) -> tuple[Path, Path]:
    return make_certificate(folder, "own")


@pytest.fixture(scope="module")
def tls(checkpoint_folder: Path, certificate: tuple[Path, Path]) -> Iterator[Running]:
    """A server by TLS that does not wait for handshakes."""
    chain, key = certificate
    settings = Settings(checkpoint=checkpoint_folder, tls_certificate=chain, tls_key=key, header_seconds=0.5)
    with serving(settings, SlowDecoder) as running:
        yield running


def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


def secure(running: Running) -> str:
    return running.url.replace("http:", "https:")


def test_a_client_that_trusts_the_certificate_is_served(tls: Running, certificate: tuple[Path, Path]) -> None:
    with httpx.Client(base_url=secure(tls), verify=trusting(certificate), timeout=30) as client:
        body = {"prompt": "a", "max_tokens": 20, "seed": 1}
        whole = client.post("/v1/completions", json=body)
        assert whole.status_code == 200
        with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
            assert response.read().endswith(b"data: [DONE]\n\n")
        assert client.post("/v1/completions", content=b"a" * (9 << 20)).status_code == 413
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{secure(tls)}/health")


def test_one_file_may_have_both_certificate_and_key(
    checkpoint_folder: Path, certificate: tuple[Path, Path], folder: Path
) -> None:
    both = folder / "both.pem"
    both.write_bytes(b"".join(path.read_bytes() for path in certificate))
    with serving(Settings(checkpoint=checkpoint_folder, tls_certificate=both)) as running:
        assert httpx.get(f"{secure(running)}/health", verify=trusting(certificate)).status_code == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "taken_up"),
    [("TLSv1", False), ("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)],
)
def test_only_modern_versions_are_spoken(
    version: str, taken_up: bool, tls: Running, certificate: tuple[Path, Path]
) -> None:
    context = trusting(certificate)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with connected(tls) as client:
        if not taken_up:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(client, server_hostname="localhost")
            return
        with context.wrap_socket(client, server_hostname="localhost") as secured:
            assert secured.version() == version.replace("_", ".")
            secured.sendall(asking("/health"))
            assert secured.recv(100).startswith(b"HTTP/1.1 200 ")


def test_plain_http_is_turned_away(tls: Running) -> None:
    with connected(tls) as client:
        client.sendall(asking("/health"))
        assert b"HTTP" not in rest(client)
    assert eventually(lambda: taken(tls) <= 1)  # the fixture's own client may be there


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_a_handshake_that_does_not_end_is_given_up(sent: bytes, tls: Running) -> None:
    with connected(tls) as client:
        client.sendall(sent)
        began = time.monotonic()
        assert rest(client) == b""
        assert 0.3 < time.monotonic() - began < Settings().header_seconds
    assert eventually(lambda: taken(tls) <= 1)


def test_headers_are_timed_after_the_handshake(tls: Running, certificate: tuple[Path, Path]) -> None:
    with connected(tls) as client, trusting(certificate).wrap_socket(client, server_hostname="localhost") as secured:
        secured.sendall(asking("/health")[:-2])
        assert secured.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_half_closes_its_side_of_tls_does_not_hang(tls: Running, certificate: tuple[Path, Path]) -> None:
    """TLS has no half-closed connection here: after close_notify the server ends it, and its place is free."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secured = trusting(certificate).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with connected(tls) as client:
        while secured.version() is None:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                client.sendall(outgoing.read())
                incoming.write(client.recv(1 << 16))
        secured.write(asking("/v1/completions", prompt="a", max_tokens=ENDLESS))
        with suppress(ssl.SSLWantReadError):
            secured.unwrap()  # which sends close_notify, and would wait for that of the server
        client.sendall(outgoing.read())
        began = time.monotonic()
        rest(client)
        assert time.monotonic() - began < HANGS / 2
    assert eventually(lambda: taken(tls) <= 1)
    with httpx.Client(base_url=secure(tls), verify=trusting(certificate)) as other:
        assert eventually(lambda: other.get("/health").json()["running"] == 0)


def test_handshakes_count_as_connections(
    checkpoint_folder: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "PROBE_CONNECTIONS", 1)
    monkeypatch.setattr(shared_limits, "REFUSED_CONNECTIONS", 0)
    chain, key = certificate
    settings = Settings(checkpoint=checkpoint_folder, tls_certificate=chain, tls_key=key, max_connections=2)
    with serving(settings) as running, ExitStack() as stack:
        fill(running, stack, 2)  # which say nothing, and are in their handshake
        answered = httpx.get(f"{secure(running)}/health", verify=trusting(certificate))
        assert answered.status_code == 200
        refused = httpx.get(f"{secure(running)}/v1/models", verify=trusting(certificate))
        assert refused.status_code == 503
        assert eventually(lambda: taken(running) == 2)
        with connected(running) as silent, connected(running):
            assert rest(silent) == b""  # cut off for the newer one
        assert httpx.get(f"{secure(running)}/health/live", verify=trusting(certificate)).status_code == 200


def test_an_idle_connection_by_tls_costs_little_memory(tls: Running, certificate: tuple[Path, Path]) -> None:
    """Both its sides, since they are of one process here."""
    count, context = 20, trusting(certificate)
    with ExitStack() as stack:
        tracemalloc.start()
        for _ in range(count):
            plain = stack.enter_context(connected(tls))
            secured = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            secured.sendall(asking("/health"))
            assert secured.recv(100).startswith(b"HTTP/1.1 200 ")
        memory, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert memory / count < 100_000


def test_p5_a_client_gone_by_tls_frees_its_place(tls: Running, certificate: tuple[Path, Path]) -> None:
    with connected(tls) as client, trusting(certificate).wrap_socket(client, server_hostname="localhost") as secured:
        secured.sendall(asking("/v1/completions", prompt="a", max_tokens=ENDLESS))
        assert eventually(lambda: tls.engine.running == 1)
        secured.shutdown(socket.SHUT_RDWR)
    assert eventually(lambda: tls.engine.running == 0)


def test_what_is_no_certificate_is_refused_with_a_remedy(certificate: tuple[Path, Path], folder: Path) -> None:
    chain, key = certificate
    _, other = make_certificate(folder, "other")
    _, locked = make_certificate(folder, "locked", "-passout", "pass:secret")
    empty = folder / "empty.pem"
    empty.write_bytes(b"")
    binary = folder / "binary.pem"
    binary.write_bytes(bytes(range(256)))
    missing = folder / "missing.pem"
    for certificate_, key_, flag in (
        (missing, key, "--tls-certificate"),
        (chain, missing, "--tls-key"),
        (folder, key, "--tls-certificate"),
        (empty, key, "--tls-certificate"),
        (binary, key, "--tls-certificate"),
        (chain, empty, "--tls-key"),
        (chain, other, "--tls-key"),
        (chain, locked, "--tls-key"),
        (chain, None, "--tls-key"),
    ):
        with pytest.raises(SettingsError, match=flag) as raised:
            tls_context(Settings(tls_certificate=certificate_, tls_key=key_))
        assert str(raised.value).endswith(".")
    assert tls_context(Settings()) is None
