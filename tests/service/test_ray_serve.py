"""Unroll on Ray Serve: the texts of one server, streams as they are written, and replicas that come and go."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.checkpoint import save
from tests.model.cluster.nodes import Nodes, nodes
from tests.model.small import small_checkpoint
from tests.service.serving import ENDLESS, REPOSITORY, Reference, eventually

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # of Ray's own imports
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'unroll[ray]'"),
]

SECONDS = 90
TEXTS = 64  # of one stream, which goes on for many seconds
CONFIG = """
proxy_location: HeadOnly
http_options: {{host: 127.0.0.1, port: {port}}}
applications:
- name: several
  route_prefix: /
  import_path: service.ray_serve:app
  args: {{checkpoint: "one={one}", others: ["two={two}"], min_replicas: 1, max_replicas: 2, ongoing_requests: 2}}
  deployments:
  - name: Unroll
    autoscaling_config:
      {{min_replicas: 1, max_replicas: 2, target_ongoing_requests: 2, upscale_delay_s: 1, metrics_interval_s: 0.5}}
- name: alone
  route_prefix: /alone
  import_path: service.ray_serve:app
  args: {{checkpoint: "{two}", root_path: /alone, min_replicas: 2, max_replicas: 2, max_rows: 2, cores: 0.5}}
  deployments:
  - {{name: Unroll, max_replicas_per_node: 1}}
"""

STATUS = """
import sys
import ray
from ray import serve
ray.init(log_to_driver=False)
print(serve.status().applications[sys.argv[1]].deployments["Unroll"].replica_states["RUNNING"])
"""


@dataclass(frozen=True)
class Served:
    """What runs: a client of Ray's proxy, its cluster, and the checkpoints of the models one and two."""

    client: httpx.Client
    cluster: Nodes
    folders: tuple[Path, Path]

    def complete(self, path: str = "", **fields: Any) -> Any:
        """The body of an answer."""
        return self.client.post(f"{path}/v1/completions", json=fields).raise_for_status().json()

    def replicas(self, application: str) -> int:
        """How many replicas of an application run."""
        words = [sys.executable, "-c", STATUS, application]
        environment = {**os.environ, "RAY_ADDRESS": self.cluster.address}
        said = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True)
        return int(said.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("served")
    one, two = place / "first", place / "second"
    save(small_checkpoint(seed=1), one)
    save(small_checkpoint("gru", seed=2), two)
    with socket.socket() as free, ExitStack() as stack:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        config = place / "serve.yaml"
        config.write_text(CONFIG.format(port=port, one=one, two=two))
        cluster = stack.enter_context(nodes(2, cores=2))
        environment = {**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(REPOSITORY)}
        log = stack.enter_context((place / "log").open("wb"))
        words = [sys.executable, "-m", "ray.serve.scripts", "run", str(config)]
        process = subprocess.Popen(words, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.send_signal, signal.SIGINT)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SECONDS) as client:

            def answers() -> bool:
                assert process.poll() is None, (place / "log").read_text()
                try:
                    return all(client.get(f"{path}/v1/models").status_code == 200 for path in ("", "/alone"))
                except httpx.TransportError:
                    return False

            assert eventually(answers, SECONDS), (place / "log").read_text()
            yield Served(client, cluster, (one, two))


FIELDS: dict[str, Any] = {"prompt": "the ", "max_tokens": 200, "seed": 7, "temperature": 1.1}


def test_several_models_write_the_texts_they_write_anywhere(served: Served) -> None:
    assert [one["id"] for one in served.client.get("/v1/models").json()["data"]] == ["one", "two"]
    for name, folder in zip(("one", "two"), served.folders, strict=True):
        expected = Reference(folder).write(**FIELDS).text
        assert served.complete(model=name, **FIELDS)["choices"][0]["text"] == expected
        with served.client.stream("POST", "/v1/completions", json={"model": name, "stream": True, **FIELDS}) as answer:
            events = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
        assert events.pop() == "[DONE]"
        assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == expected
    assert (
        served.complete("/alone", **FIELDS)["choices"][0]["text"] == Reference(served.folders[1]).write(**FIELDS).text
    )


def endless(served: Served, path: str = "") -> Any:
    body = {"prompt": ["a"] * TEXTS, "max_tokens": ENDLESS, "stream": True, "seed": 1}
    return served.client.stream("POST", f"{path}/v1/completions", json=body)


def texts(served: Served) -> float:
    """Texts that the only replica of the first application generates."""
    for line in served.client.get("/metrics").text.splitlines():
        if line.startswith("unroll_requests_running"):
            return float(line.rpartition(" ")[2])
    raise AssertionError("no such metric")


def test_a_stream_comes_as_it_is_written_and_ends_with_its_client(served: Served) -> None:
    with endless(served) as answer:
        lines = answer.iter_lines()
        assert answer.status_code == 200
        assert [next(lines) for _ in range(8)]  # though there are many more
        assert eventually(lambda: texts(served) == TEXTS, SECONDS)
    assert eventually(lambda: texts(served) == 0, SECONDS)


def test_replicas_take_each_other_s_states(served: Served) -> None:
    first = served.complete("/alone", return_state=True, **FIELDS)["choices"][0]
    fields = {**FIELDS, "prompt": "", "max_tokens": 10_000, "state": first["state"]}
    with ThreadPoolExecutor(8) as pool:  # a replica takes four at a time, so both are asked
        rests = [pool.submit(served.complete, "/alone", **fields) for _ in range(16)]
    whole = Reference(served.folders[1]).write(**{**FIELDS, "max_tokens": 10_200}).text
    assert {first["text"] + rest.result()["choices"][0]["text"] for rest in rests} == {whole}


def test_requests_that_go_on_bring_a_second_replica(served: Served) -> None:
    assert served.replicas("several") == 1
    stop = threading.Event()

    def read() -> None:
        with endless(served) as answer:
            for _ in answer.iter_lines():
                if stop.is_set():
                    return

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    try:
        until = time.monotonic() + SECONDS
        while served.replicas("several") < 2:
            assert time.monotonic() < until
            time.sleep(1)
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_a_node_that_dies_costs_a_retry(served: Served) -> None:
    """Each request is answered in the end, with the text it has anywhere, and another replica is started."""
    whole = Reference(served.folders[1]).write(**{**FIELDS, "max_tokens": 10_000}).text
    retries = 0

    def ask() -> str:
        nonlocal retries
        for _ in range(30):
            try:
                text: str = served.complete("/alone", **{**FIELDS, "max_tokens": 10_000})["choices"][0]["text"]
            except httpx.HTTPError:
                retries += 1
                time.sleep(0.5)
            else:
                return text
        raise AssertionError("not answered")

    with ThreadPoolExecutor(8) as pool:
        texts = [pool.submit(ask) for _ in range(200)]
        assert eventually(lambda: sum(one.done() for one in texts) > 20, SECONDS)
        served.cluster.kill()
        left = sum(not one.done() for one in texts)
        found = {one.result() for one in texts}
    assert found == {whole}
    assert left > 100
    assert retries < 100
    served.cluster.add()
    until = time.monotonic() + SECONDS
    while served.replicas("alone") < 2:
        assert time.monotonic() < until
        time.sleep(1)


def test_settings_come_from_arguments_then_the_environment() -> None:
    from service.ray_serve import settings_of

    made = settings_of(
        {"threads": "2", "page": "false", "others": "a b"}, {"UNROLL_MAX_ROWS": "16", "UNROLL_THREADS": "3"}
    )
    assert (made.threads, made.page, made.others, made.max_rows) == (2, False, ("a", "b"), 16)
    assert made.hosts is None
    assert len(made.state_secret or "") == 64
    assert settings_of({"state_secret": "s" * 40}, {}).state_secret == "s" * 40
    assert settings_of({}, {}).threads == 1


@pytest.mark.parametrize(
    ("args", "environment", "said"),
    [
        ({"thread": "2"}, {}, "no setting thread; perhaps threads"),
        ({"min_replica": "2"}, {}, "perhaps min_replicas"),
        ({"threads": "many"}, {}, "threads is 'many'"),
        ({"max_rows": "0"}, {}, "max_rows is 0; choose"),
        ({"port": "80"}, {}, "port is for `unroll serve` alone"),
        ({"idle_seconds": "80"}, {}, "idle_seconds is for `unroll serve` alone"),
        ({}, {"UNROLL_TLS_CERTIFICATE": "a.pem"}, "UNROLL_TLS_CERTIFICATE is for `unroll serve` alone"),
        ({"processes": "2"}, {}, "processes is for `unroll serve` alone"),
    ],
)
def test_settings_that_cannot_be_are_refused(args: dict[str, Any], environment: dict[str, str], said: str) -> None:
    from service.errors import SettingsError
    from service.ray_serve import settings_of

    with pytest.raises(SettingsError, match=said):
        settings_of(args, environment)


def test_faults_are_told_before_a_replica_is_started(tmp_path: Path) -> None:
    from model.errors import CheckpointError
    from service.errors import SettingsError
    from service.ray_serve import app

    with pytest.raises(CheckpointError):
        app({"checkpoint": str(tmp_path / "nowhere")})
    with pytest.raises(SettingsError, match="min_replicas is 3 and max_replicas 2"):
        app({"min_replicas": 3, "max_replicas": "2"})
    with pytest.raises(SettingsError, match="ongoing_requests is 0"):
        app({"ongoing_requests": "0"})
