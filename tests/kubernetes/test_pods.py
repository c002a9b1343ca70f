"""The pods that the chart makes, run here as processes with their volumes as folders; `make chart-proof` runs these."""

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.archives import archive
from tests.kubernetes.chart import SETS, container_of, of_kind, rendered, variables
from tests.kubernetes.pods import Pod, pause

pytestmark = pytest.mark.chart

KEY, OTHER = "a-key-of-a-client-in-a-test", "a-key-of-prometheus-in-a-test"
STARTS = 30  # seconds a pod may take on a busy machine; it takes one or two
SHORT = {"prompt": "a", "max_tokens": 8, "seed": 4}
GIVEN = {
    "unroll-keys": {"api-keys": f"client {KEY}\nprometheus {OTHER}\n"},
    "unroll-states": {"state-secret": "a-secret-of-states-in-a-test-of-pods\n"},
}


def text_of(answer: tuple[int, str]) -> str:
    status, body = answer
    assert status == 200, body
    text: str = json.loads(body)["choices"][0]["text"]
    return text


@pytest.mark.parametrize("name", SETS)
def test_the_command_itself_takes_every_flag_and_variable(name: str, tmp_path: Path) -> None:
    objects = rendered(name)
    given: dict[str, Any] = {**GIVEN, "unroll-tls": {"tls.crt": "", "tls.key": ""}, "models": tmp_path}
    pod = Pod(objects, tmp_path, given)
    shown = pod.run(*container_of(objects)["args"], "--print-config")
    assert shown.returncode == 0, shown.stderr
    taken = dict(re.findall(r"^(UNROLL_\w+)=(.*?) +# environment$", shown.stdout, re.M))
    wanted = pod.environment(pod.container)
    assert taken.keys() == {variable for variable in wanted if variable.startswith("UNROLL_")}
    for variable, value in taken.items():
        if re.fullmatch(r"[\d.]+", value) and variable != "UNROLL_HOST":
            assert float(value) == float(wanted[variable]), variable
        else:
            assert value.lower() == wanted[variable].lower(), variable


def test_a_variable_that_is_no_setting_ends_the_pod_s_command(tmp_path: Path) -> None:
    objects = rendered("bundled")
    container_of(objects)["env"].append({"name": "UNROLL_GRACE_SECOND", "value": "3"})
    done = Pod(objects, tmp_path, {}).run("serve", "--print-config")
    assert done.returncode == 1
    assert "UNROLL_GRACE_SECOND, which is no setting; perhaps UNROLL_GRACE_SECONDS is meant" in done.stderr


def test_a_pod_behind_keys_and_tls_serves_a_volume_and_drains(
    tmp_path: Path, ports: list[str], models: Path, certificate: Callable[[], dict[str, str]]
) -> None:
    objects = rendered("claim", *ports)
    with Pod(objects, work(tmp_path), {**GIVEN, "unroll-tls": certificate(), "models": models}) as pod:
        pod.until("startup", STARTS)
        pod.until("readiness", STARTS)
        assert pod.probe("liveness")
        assert pod.run("health").returncode == 0
        assert pod.get("/v1/completions", body=SHORT)[0] == 401
        listed = json.loads(pod.get("/v1/models", KEY)[1])["data"]
        assert {one["id"] for one in listed} == {"first", "second"}
        answer = pod.get("/v1/completions", KEY, body=SHORT)
        assert json.loads(answer[1])["model"] == "second"  # settings.default_model
        assert len(text_of(answer)) == SHORT["max_tokens"]
        # Prometheus comes to the other port with its key, and finds what the autoscaler asks for.
        assert pod.get("/metrics", port="management")[0] == 401
        status, metrics = pod.get("/metrics", OTHER, "management")
        assert status == 200
        [scaler] = of_kind(objects, "HorizontalPodAutoscaler")
        names = [one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"]]
        assert [name for name in names if not re.search(rf"^{name} \d", metrics, re.M)] == []
        assert pod.get("/v1/models", KEY, "management")[0] == 404
        assert drains(pod, KEY) == 0


def drains(pod: Pod, key: str = "") -> int:
    """SIGTERM while a text is written: it ends whole, the pod is not ready and lives, and ends; its status."""
    long = {"prompt": "a", "max_tokens": 100_000, "seed": 1}
    texts: list[str] = []
    writer = threading.Thread(target=lambda: texts.append(text_of(pod.get("/v1/completions", key, body=long))))
    writer.start()
    deadline = time.monotonic() + 10
    while json.loads(pod.get("/health", key, "management")[1])["running"] == 0:
        assert time.monotonic() < deadline
        assert writer.is_alive(), "the text ended before it was seen"
    pod.terminate()
    while pod.probe("readiness"):
        assert time.monotonic() < deadline
    assert writer.is_alive(), "the text ended before a probe could see the server drain"
    assert pod.probe("liveness"), "a pod that drains must not be killed for it"
    assert pod.get("/v1/completions", key, body=SHORT)[0] == 503
    status = pod.wait()
    writer.join(5)
    assert [len(text) for text in texts] == [long["max_tokens"]]
    return status


def work(folder: Path) -> Path:
    """The folder of a pod."""
    (folder / "pod").mkdir()
    return folder / "pod"


def test_a_text_that_never_ends_is_cut_off_within_the_grace(tmp_path: Path, ports: list[str]) -> None:
    objects = rendered("bundled", *ports, "--set", "graceSeconds=2")
    with Pod(objects, work(tmp_path), {}) as pod:
        pod.until("readiness", STARTS)
        endless = {"prompt": "a", "max_tokens": 100_000, "n": 8, "stream": True}
        seen: list[tuple[int, str]] = []
        reader = threading.Thread(target=lambda: seen.append(pod.get("/v1/completions", body=endless)))
        reader.start()
        while json.loads(pod.get("/health")[1])["running"] == 0:
            assert reader.is_alive()
        started = time.monotonic()
        pod.terminate()
        assert pod.wait() == 0
        assert time.monotonic() - started > 0.9  # half of the grace is for what is written to be read
        reader.join(5)
        [(status, body)] = seen
        assert status == 200
        assert "The server stopped before this text had ended" in body
        assert pod.spec["terminationGracePeriodSeconds"] == pause(pod.container) + 12


def test_an_init_container_fetches_an_archive_that_the_pod_serves(
    tmp_path: Path, ports: list[str], models: Path
) -> None:
    files = {str(path.relative_to(models)): path.read_bytes() for path in models.rglob("*") if path.is_file()}
    with archive(tmp_path, files) as (url, digest):
        words = ["--set", f"models.archive.url={url}", "--set", f"models.archive.sha256={digest}"]
        objects = rendered("archive", *ports, *words)
        with_archive = Pod(objects, work(tmp_path), {})
        [fetched] = with_archive.prepare()
    assert (fetched.returncode, fetched.stdout) == (0, "first\nsecond\n"), fetched.stderr
    with with_archive as pod:
        pod.until("readiness", STARTS)
        [secret] = of_kind(objects, "Secret")
        key = secret["stringData"]["api-keys"].split()[1]
        listed = json.loads(pod.get("/v1/models", key)[1])["data"]
        assert {one["id"] for one in listed} == {"first", "second"}
        assert len(text_of(pod.get("/v1/completions", key, body=SHORT))) == SHORT["max_tokens"]


def test_an_init_container_copies_the_models_of_another_image(tmp_path: Path, ports: list[str], models: Path) -> None:
    with_copy = Pod(rendered("copy", *ports), work(tmp_path), {}, images={"/models": models})
    [copied] = with_copy.prepare()
    assert copied.returncode == 0, copied.stderr
    with_copy.images.clear()  # the pod's own container has another image
    with with_copy as pod:
        pod.until("readiness", STARTS)
        listed = json.loads(pod.get("/v1/models")[1])["data"]
        assert {one["id"] for one in listed} == {"first", "second"}


def test_one_model_of_an_image_is_served_at_a_prefix(tmp_path: Path, ports: list[str], models: Path) -> None:
    (models / "first").rename(models / "mine")
    objects = rendered("image", *ports)
    assert variables(container_of(objects))["UNROLL_MODEL"] == "/models/mine"
    with Pod(objects, work(tmp_path), {"models": models}) as pod:
        pod.until("readiness", STARTS)
        for prefix in ("", "/llm"):  # a proxy may cut it off or not
            assert [one["id"] for one in json.loads(pod.get(f"{prefix}/v1/models")[1])["data"]] == ["mine"]
