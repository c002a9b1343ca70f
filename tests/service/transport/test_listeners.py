"""Where a server listens: addresses of one family and of both, and Unix sockets, with what stands in the way."""

import json
import re
import socket
import stat
import time
from pathlib import Path

import httpx
import pytest

from service.errors import SettingsError
from service.transport.listeners import LEFT_SECONDS, FairListener, listen, listen_unix
from tests.service.raw_client import vanish
from tests.service.serving import eventually, program, serving_process

SIX = socket.has_ipv6 and Path("/proc/net/if_inet6").exists() and Path("/proc/net/if_inet6").read_text()


def test_a_port_in_use_is_an_error_with_a_remedy() -> None:
    (taken,) = listen("127.0.0.1", 0)
    with taken:
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(SettingsError, match=f"{host} port {port} .*--port"):
                listen(host, port)


def test_small_pieces_are_sent_at_once() -> None:
    """asyncio turns off Nagle's algorithm, worth 40 ms a piece, only on sockets that say they are TCP."""
    for host in ("127.0.0.1", "localhost", ""):
        for listener in listen(host, 0):
            with listener:
                assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.name.invalid", "x" * 300])
def test_a_host_that_is_not_ours_is_an_error_with_a_remedy(host: str) -> None:
    with pytest.raises(SettingsError, match="--host"):
        listen(host, 0)


@pytest.mark.parametrize(("host", "four", "six"), [("localhost", "127.0.0.1", "::1"), ("", "0.0.0.0", "::")])
def test_a_name_may_mean_both_families_with_one_port(host: str, four: str, six: str) -> None:
    listeners = listen(host, 0)
    try:
        names = [one.getsockname() for one in listeners]
        assert [name[0] for name in names] == ([four, six] if SIX else [four])
        assert len({name[1] for name in names}) == 1
        for address in ("127.0.0.1", "::1") if SIX else ("127.0.0.1",):
            socket.create_connection((address, names[0][1]), timeout=5).close()
    finally:
        for one in listeners:
            one.close()


@pytest.mark.parametrize("host", ["localhost", ""])
def test_a_server_is_reached_by_both_families(host: str, checkpoint_folder: Path) -> None:
    with serving_process(str(checkpoint_folder), "--port", "0", "--host", host) as (process, url):
        port = httpx.URL(url).port
        for name in ("127.0.0.1", "[::1]", "localhost") if SIX else ("127.0.0.1", "localhost"):
            assert httpx.get(f"http://{name}:{port}/v1/models").status_code == 200
        process.terminate()
        assert process.wait(30) == 0


def test_a_socket_that_a_server_left_is_replaced_and_one_that_is_used_is_not(tmp_path: Path) -> None:
    path = tmp_path / "unroll.sock"
    with listen_unix(path) as first:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with pytest.raises(SettingsError, match=r"another server listens there.*--uds"):
            listen_unix(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        first.close()
    with listen_unix(path):
        pass


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("keep me")
    for path in (tmp_path / "notes", tmp_path, tmp_path / "none" / "x", tmp_path / ("x" * 200)):
        with pytest.raises(SettingsError, match="--uds"):
            listen_unix(path)
    assert (tmp_path / "notes").read_text() == "keep me"


def test_a_server_on_a_unix_socket(checkpoint_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "unroll.sock"
    with serving_process(str(checkpoint_folder), "--uds", str(path)) as (process, url):
        assert url == f"unix:{path}"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://any.example") as client:
            assert client.get("/v1/models").status_code == 200  # by any name: no page can reach it
            text = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 5, "seed": 1}).json()
            assert len(text["choices"][0]["text"]) == 5
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert re.search(rf"curl -N --unix-socket {re.escape(str(path))} http://localhost/v1/completions", lines[2])
        done = program("health", "--uds", str(path))
        assert (done.returncode, done.stdout) == (
            0,
            f"The server on the socket {path} is well: /health/ready answers ok.\n",
        )
        told = json.loads(program("health", "--json", UNROLL_UDS=str(path)).stdout)
        assert (told["well"], told["uds"], "port" in told) == (True, str(path), False)
        process.terminate()
        assert process.wait(30) == 0
    assert not path.exists()
    done = program("health", "--uds", str(path))
    assert done.returncode == 1
    assert "--uds" in done.stderr


def test_a_half_closed_unix_socket_is_answered_and_a_gone_one_let_go(checkpoint_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "unroll.sock"
    with serving_process(str(checkpoint_folder), "--uds", str(path)), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET /version HTTP/1.0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        received = b""
        while piece := client.recv(4096):
            received += piece
        assert received.startswith(b"HTTP/1.1 200 OK")


def test_a_connection_is_left_to_other_processes_for_a_moment_and_then_taken() -> None:
    crowded = [True]
    with FairListener(listen("127.0.0.1", 0)[0], lambda: crowded[0]) as listener:
        listener.setblocking(False)
        for _ in range(2):  # the second comes later, and is left to others, too
            with socket.create_connection(listener.getsockname()):
                with pytest.raises(BlockingIOError):
                    listener.accept()
                assert eventually(lambda: _takes(listener))
            time.sleep(3 * LEFT_SECONDS)
        crowded[0] = False
        with socket.create_connection(listener.getsockname()):
            assert _takes(listener)
            assert not _takes(listener)  # nobody waits


def test_of_connections_that_were_reset_while_they_waited_nothing_is_made() -> None:
    (listener,) = listen("127.0.0.1", 0)
    with listener:
        listener.setblocking(False)
        for _ in range(3):
            vanish(socket.create_connection(listener.getsockname()))
        with socket.create_connection(listener.getsockname()) as client:
            connection, address = listener.accept()
            with connection:
                assert address == client.getsockname()
        for _ in range(3):
            vanish(socket.create_connection(listener.getsockname()))
        with pytest.raises(BlockingIOError):
            listener.accept()


def _takes(listener: FairListener) -> bool:
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return False
    connection.close()
    return True
