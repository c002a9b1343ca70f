"""The program `unroll serve` as a process: what it prints, how it is set, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from model.checkpoint import WEIGHTS, save
from tests.model.small import CHARACTERS, small_checkpoint
from tests.service.error_cases import check
from tests.service.serving import ENDLESS, REPOSITORY, Reference, SlowRows, program, serving_process
from tests.service.sse_client import chunks, texts

LONG = {"prompt": "a", "max_tokens": 500, "n": 3, "seed": 1, "stream": True}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return program("serve", *arguments, **environment)


def test_a_signal_lets_streams_end_and_refuses_what_is_new(checkpoint_folder: Path, reference: Reference) -> None:
    with serving_process(str(checkpoint_folder), "--port", "0", rows=SlowRows) as (process, url):
        with httpx.stream("POST", f"{url}/v1/completions", json=LONG, timeout=30) as response:
            body = response.iter_raw()
            received = next(body)
            process.send_signal(signal.SIGTERM)
            answers = [httpx.get(f"{url}/health")]
            while answers[-1].status_code == 200:
                answers.append(httpx.get(f"{url}/health"))
            assert answers[-1].status_code == 503
            assert answers[-1].json()["status"] == "draining"
            refused = httpx.post(f"{url}/v1/completions", json={"prompt": "a"})
            assert check(refused, 503)["code"] == "draining"
            assert refused.headers["retry-after"]
            received += b"".join(body)
        parts = chunks(received)
        assert texts(parts, 3)[2] == reference.write("a", choice=2, max_tokens=500, seed=1).text
        assert process.wait(10) == 0


def test_an_idle_server_ends_at_once(checkpoint_folder: Path) -> None:
    with (
        serving_process(str(checkpoint_folder), "--port", "0") as (process, url),
        httpx.Client(base_url=url) as client,  # a connection kept alive holds nobody up
    ):
        assert client.get("/health").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_second_signal_at_once_ends_in_peace(checkpoint_folder: Path, seconds: float) -> None:
    """While uvicorn gives its connections a tenth of a second."""
    with (
        serving_process(str(checkpoint_folder), "--port", "0") as (process, url),
        httpx.Client(base_url=url) as client,
    ):
        assert client.get("/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(("grace", "signals"), [("30", 2), ("0.2", 1)])
def test_a_second_signal_or_the_end_of_the_grace_ends_streams(
    checkpoint_folder: Path, grace: str, signals: int
) -> None:
    arguments = (str(checkpoint_folder), "--port", "0", "--grace-seconds", grace)
    with serving_process(*arguments, rows=SlowRows) as (process, url):
        fields = {**LONG, "max_tokens": ENDLESS}
        with httpx.stream("POST", f"{url}/v1/completions", json=fields, timeout=30) as response:
            body = response.iter_raw()
            received = next(body)
            for _ in range(signals):
                process.send_signal(signal.SIGTERM)
                time.sleep(0.3)
            started = time.monotonic()
            received += b"".join(body)
            assert process.wait(5) == 0
            assert time.monotonic() - started < 5
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        assert received.endswith(b"data: [DONE]\n\n")
        assert b'"code":"draining"' in received


def test_the_grace_is_all_that_a_client_who_reads_nothing_has(checkpoint_folder: Path) -> None:
    with serving_process(str(checkpoint_folder), "--port", "0", "--grace-seconds", "0.4") as (process, url):
        fields = {"prompt": ["a"] * 64, "n": 16, "max_tokens": 10_000, "stream_interval": 0, "stream": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=fields, timeout=30) as response:
            assert response.status_code == 200
            time.sleep(0.5)  # until more is written than sockets hold
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - started < 1.9  # two seconds beside the grace were too many


@pytest.mark.parametrize(("letters", "prompt"), [("", ""), ("O", "Once upon a time")])
def test_it_says_what_it_serves_and_what_to_try_in_the_models_own_letters(
    tmp_path: Path, letters: str, prompt: str
) -> None:
    save(small_checkpoint(characters=CHARACTERS + letters), tmp_path / "run" / "best")
    with serving_process(str(tmp_path / "run"), UNROLL_PORT="0", UNROLL_NAME="tiny") as (process, url):
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert f"{url}/docs" in lines[0]
        curl = next(line for line in lines if "curl" in line)
        assert curl.strip().startswith(f"curl -N {url}/v1/completions ")
        assert f'"prompt": "{prompt}"' in curl
        answer = subprocess.run(curl, shell=True, capture_output=True, timeout=30, check=True)
        parts = chunks(answer.stdout)
        assert {part["model"] for part in parts} == {"tiny"}


def test_what_to_try_names_an_address_to_reach_and_where_the_key_goes(checkpoint_folder: Path) -> None:
    key = "a-key-that-nobody-guesses"
    with serving_process(str(checkpoint_folder), "--host", "0.0.0.0", "--port", "0", UNROLL_API_KEYS=key) as (
        process,
        url,
    ):
        here = url.replace("0.0.0.0", "127.0.0.1")
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert f"{here}/docs" in lines[0]
        curl = next(line for line in lines if "curl" in line)
        assert curl.strip().startswith(f"curl -N {here}/v1/completions -H 'Authorization: Bearer YOUR-KEY' ")
        assert key not in "".join(lines)
        done = subprocess.run(curl.replace("YOUR-KEY", key), shell=True, capture_output=True, timeout=30, check=True)
        assert {part["model"] for part in chunks(done.stdout)} == {"small"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory where Linux shows it")
def test_a_server_is_small(checkpoint_folder: Path) -> None:
    with serving_process(str(checkpoint_folder), "--port", "0") as (process, url):
        assert httpx.post(f"{url}/v1/completions", json={"prompt": "a", "n": 16}).status_code == 200
        assert httpx.get(f"{url}/openapi.json").status_code == 200
        status = Path(f"/proc/{process.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident is not None
    assert int(resident[1]) < 200_000


def test_a_flag_wins_over_the_environment(checkpoint_folder: Path) -> None:
    with serving_process("--port", "0", UNROLL_PORT="99999", UNROLL_MODEL=str(checkpoint_folder)) as (_, url):
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "small"


def test_serving_the_world_is_warned_about(checkpoint_folder: Path) -> None:
    with serving_process(str(checkpoint_folder), "--host", "0.0.0.0", "--port", "0") as (process, _):
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
    assert re.search(r"WARNING .*everyone who can reach .* asks for no key", errors)


def test_a_checkpoint_is_looked_at_before_the_port_is_open(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = run(str(tmp_path / "nothing"), "--port", port)
        assert (ended.returncode, "There is no checkpoint folder at" in ended.stderr) == (1, True), ended.stderr
        save(small_checkpoint(), tmp_path / "model")
        (tmp_path / "model" / WEIGHTS).write_bytes(b"cut")
        assert "the file is truncated" in run(str(tmp_path / "model"), "--port", port).stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (("--port", "70000"), {}, "port is 70000; choose a number from 0 to 65,535 with --port or UNROLL_PORT"),
        ((), {"UNROLL_MAX_ROWS": "0"}, "max_rows is 0; choose a number from 1 to 4,096 with --max-rows"),
        (("no/such/folder",), {}, "There is no checkpoint folder at no/such/folder"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(
    arguments: tuple[str, ...], environment: dict[str, str], sentence: str
) -> None:
    ended = run(*arguments, **environment)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_states_defaults_variables_and_examples() -> None:
    ended = run("--help", COLUMNS="200", NO_COLOR="1", TERM="dumb")
    assert ended.returncode == 0
    for text in (
        "UNROLL_PORT",
        "8000",
        "UNROLL_GRACE_SECONDS",
        "30",
        "unroll serve runs/book/best",
        "UNROLL_MODEL",
    ):
        assert text in ended.stdout


def test_serving_never_loads_torch(checkpoint_folder: Path) -> None:
    program = f"""
import sys
from pathlib import Path
import service.cli, service.server
from service.app import create_application
from service.settings import Settings
create_application(Settings(checkpoint=Path({str(checkpoint_folder)!r})))
heavy = {{"torch", "training", "scipy", "pandas"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, timeout=30)


SILENT = sorted(
    str(path.relative_to(REPOSITORY).with_suffix("")).replace("/", ".")
    for folder in ("service/engine", "service/inference")
    for path in (REPOSITORY / folder).glob("[!_]*.py")
)


def test_what_generates_knows_no_http() -> None:
    """One by one in one process: what one of them loads, all together load."""
    program = f"""
import importlib, sys
for module in {SILENT!r}:
    importlib.import_module(module)
    web = {{"fastapi", "starlette", "uvicorn", "pydantic"}} & set(sys.modules)
    assert not web, (module, web)
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, timeout=30)


@pytest.mark.parametrize("verb", ["serve", "generate"])
def test_an_interrupt_in_the_middle_of_an_import_is_no_traceback(verb: str, tmp_path: Path) -> None:
    interrupts = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n"
    (tmp_path / "typer.py").write_text(interrupts, "utf-8")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "unroll", verb]
    ended = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")
