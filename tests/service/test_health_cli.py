"""The verb `unroll health` as a container's health check calls it: against real servers, well and unwell."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.service.serving import ENDLESS, REPOSITORY, Running, SlowRows, eventually, program, serving, serving_process

KEY = "k" * 32


def health(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return program("health", *arguments, **environment)


def port_of(url: str) -> str:
    return str(httpx.URL(url).port)


@contextmanager
def another_program(answer: bytes) -> Iterator[str]:
    """The port of a server that is not Unroll."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield str(server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def locked(checkpoint_folder: Path) -> Iterator[Running]:
    """A server that asks for a key and answers to one name."""
    with serving(Settings(checkpoint=checkpoint_folder, api_keys=KEY, allowed_hosts="api.example.org")) as running:
        yield running


@pytest.mark.parametrize(("flags", "path"), [((), "/health/ready"), (("--live",), "/health/live")])
def test_a_server_that_is_well_says_so_without_a_key_or_its_public_name(
    locked: Running, flags: tuple[str, ...], path: str
) -> None:
    assert locked.client.get("/v1/models").status_code != 200
    done = health(*flags, UNROLL_PORT=port_of(locked.url))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"The server on 127.0.0.1 port {port_of(locked.url)} is well: {path} answers ok.\n"


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_a_server_on_all_addresses_is_asked_on_this_machine_s(locked: Running, host: str) -> None:
    done = health("--port", port_of(locked.url), UNROLL_HOST=host)
    assert done.returncode == 0, done.stderr


def test_the_flag_wins_over_the_variable(locked: Running) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = str(free.getsockname()[1])
        done = health("--port", nobody, UNROLL_PORT=port_of(locked.url))
    assert done.returncode == 1
    assert done.stderr == (
        f"unroll: No server answers on 127.0.0.1 port {nobody} (Connection refused); start one, or name its address "
        "with --host and --port or --uds, and its --tls-certificate where it serves https.\n"
    )


def test_a_server_that_stops_is_alive_and_not_well(checkpoint_folder: Path) -> None:
    with serving_process(str(checkpoint_folder), "--port", "0", rows=SlowRows) as (process, url):
        fields = {"prompt": "a", "max_tokens": ENDLESS, "stream": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=fields, timeout=30) as response:
            body = response.iter_raw()  # kept: one that is dropped closes the connection
            next(body)
            process.send_signal(signal.SIGTERM)
            assert eventually(lambda: httpx.get(f"{url}/health/ready").status_code == 503)
            unready, alive = health(UNROLL_PORT=port_of(url)), health("--live", UNROLL_PORT=port_of(url))
        assert (unready.returncode, alive.returncode) == (1, 0)
        assert "is not well: /health/ready answers 503, draining." in unready.stderr


@pytest.mark.parametrize("answer", [b"hello", b"[]", b'{"state": "ok"}', b"x" * 100_000])
def test_another_program_on_the_port_is_no_healthy_server(answer: bytes) -> None:
    with another_program(answer) as port:
        done = health(UNROLL_PORT=port)
    assert done.returncode == 1
    assert done.stderr.endswith("is not Unroll; name the server's address with --host and --port.\n")


def test_one_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = health("--timeout-seconds", "0.2", UNROLL_PORT=str(silent.getsockname()[1]))
    assert done.returncode == 1
    assert "timed out" in done.stderr


def test_https_is_asked_where_there_is_a_certificate(checkpoint_folder: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    files = ("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=api.example.org")
    subprocess.run(["openssl", *make, *files], capture_output=True, check=True)
    settings = Settings(checkpoint=checkpoint_folder, tls_certificate=certificate, tls_key=key)
    with serving(settings) as running:
        done = health(UNROLL_PORT=port_of(running.url), UNROLL_TLS_CERTIFICATE=str(certificate))
        plain = health(UNROLL_PORT=port_of(running.url))
    assert done.returncode == 0, done.stderr
    assert plain.returncode == 1
    assert "--tls-certificate" in plain.stderr


def test_kubernetes_own_variable_is_no_port() -> None:
    done = health(UNROLL_PORT="tcp://10.0.0.1:80", UNROLL_HOST="127.0.0.2")
    assert "127.0.0.2 port 8000" in done.stderr + done.stdout


def test_asking_loads_neither_the_server_nor_the_model() -> None:
    code = """
import sys, unroll
sys.argv = ["unroll", "health", "--port", "1"]
try:
    unroll.main()
except SystemExit as end:
    assert end.code == 1, end.code
print([name for name in ("fastapi", "uvicorn", "numpy", "torch", "tokenizers") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_answer_as_json_says_the_same_with_the_same_exit_code(locked: Running) -> None:
    well = health("--port", port_of(locked.url), "--json")
    assert well.returncode == 0, well.stderr
    answer = json.loads(well.stdout)
    assert (answer["well"], answer["path"]) == (True, "/health/ready")
    assert "is well: /health/ready answers ok" in answer["message"]
    with another_program(b"\x1b[31mhello") as port:
        unwell = health("--port", port, "--json")
    assert unwell.returncode == 1
    assert json.loads(unwell.stdout)["well"] is False
    assert "is not Unroll" in json.loads(unwell.stdout)["message"]


def test_what_another_program_answers_does_not_steer_the_terminal() -> None:
    with another_program(b'{"status": "\\u001b[31mred"}') as port:
        assert "answers \u241b[31mred" in health("--port", port).stdout
