"""Proves what the serving image promises, from its files to its last word after SIGTERM."""

import http.client
import json
import re
import shutil
import signal
import time
from pathlib import Path

from container import Container
from contents_proof import environment, prove_configuration, prove_files
from engine import Engine, Image
from promises import Promises, eventually, free_port, get, packages

MOST_MEGABYTES = 250
WAIT_SECONDS = 60  # for a server to answer; it takes one or two where nothing else runs
MOMENTS = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the time it takes to start
LONG = {"prompt": "a", "max_tokens": 30_000, "seed": 1, "stream": True}
SHORT = {"prompt": "ROMEO:\n", "max_tokens": 40, "seed": 4}
PLACES = ("/x", "/opt/unroll/x", "/tmp/x", "/var/tmp/x", "/run/x", "/root/x")


def prove_serving(promise: Promises, engine: Engine, image: Image, work: Path) -> None:
    """Prove all of it."""
    second = 1_000_000_000
    prove_configuration(promise, image, {"Cmd": ["serve"], "ExposedPorts": {"8000/tcp": {}}})
    promise("it listens to every address", environment(image)["UNROLL_HOST"] == "0.0.0.0")
    check = image.health
    times = {name: check.get(name, 0) / second for name in ("Interval", "Timeout", "StartPeriod")}
    asked = check.get("Test") == ["CMD", "unroll", "health"] and min(times.values()) >= 1
    promise("its health check is `unroll health`", asked, f"{times} s, {check.get('Retries')} retries")
    root = engine.mounted(image)
    prove_files(promise, image, root, never={"torch", "setuptools"}, most=MOST_MEGABYTES)
    start_seconds = _runs(promise, engine, image)
    _drains(promise, engine, image)
    _ends(promise, engine, image, start_seconds)
    _own_model(promise, engine, image, packages(root) / "model/bundled", work)
    _no_training(promise, engine, image)


def _runs(promise: Promises, engine: Engine, image: Image) -> float:
    """How long it took to start, in seconds."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    container = Container(engine, image, variables={"UNROLL_PORT": str(port)})
    started = time.monotonic()
    with container:
        served = eventually(lambda: get(f"{url}/v1/models")[0] == 200, WAIT_SECONDS) < WAIT_SECONDS
        start_seconds = time.monotonic() - started
        used = f"{start_seconds:.2f} s after the start, {container.processor_seconds():.2f} s of processor"
        promise("it serves", served, f"first answer {used}")
        _is_confined(promise, container)
        status, body = get(f"{url}/v1/completions", SHORT)
        text = json.loads(body)["choices"][0]["text"] if status == 200 else ""
        promise("it answers a completion", len(text) == SHORT["max_tokens"], repr(text[:30]))
        again = get(f"{url}/v1/completions", SHORT)[1]
        promise("and the same again", text and text == json.loads(again)["choices"][0]["text"])
        kernel = re.search(r"parameters in int8 on (\w+)", container.log())
        promise("its kernel was compiled", kernel and kernel[1] != "numpy", kernel[1] if kernel else "")
        _is_healthy(promise, container, image)
        facts = container.status()
        promise.note("its memory", f"{facts['VmRSS'].strip()}, at most {facts['VmHWM'].strip()}")
        before = time.monotonic()
        engine("stop", "--time=40", container.name)
        ended = container.wait(1)
        took = time.monotonic() - before
        promise("the engine stops it at once where nothing runs", ended == 0 and took < 20, f"{took:.2f} s, {ended}")
    return start_seconds


def _is_confined(promise: Promises, container: Container) -> None:
    facts = container.status()
    promise("the program is process 1", facts["NSpid"].split()[-1] == "1", facts["Name"])
    promise("it is nobody's user", set(facts["Uid"].split()) == {"10001"}, f"uid {facts['Uid'].split()[0]}")
    none = int(facts["CapEff"], 16) == 0 == int(facts["CapBnd"], 16)
    promise("it has no capability, and can get none", none and facts["NoNewPrivs"] == "1")
    promise.note("its calls of the kernel", "filtered by seccomp" if facts.get("Seccomp") == "2" else "not filtered")
    written = [place for place in PLACES if container.inside("touch", place).returncode == 0]
    promise("nothing in its root can be written", not written, written or ", ".join(PLACES))


def _is_healthy(promise: Promises, container: Container, image: Image) -> None:
    check = image.health["Test"][1:]
    before = time.monotonic()
    health = container.inside(*check)
    took = time.monotonic() - before
    promise("its health check finds it well", health.returncode == 0, f"{health.stdout.strip()} {took:.2f} s")
    other = container.inside(*check, UNROLL_PORT=str(free_port()))
    promise("and finds nobody where nobody is", other.returncode == 1, other.stderr.strip()[:90])
    asked = container.engine.attempt("healthcheck", "run", container.name)
    promise("the engine's own run of it agrees", asked.returncode == 0, asked.stderr.strip() or "")


def _drains(promise: Promises, engine: Engine, image: Image) -> None:
    """SIGTERM while a text is written: the text ends whole, new ones are refused, and the process ends with 0."""
    port = free_port()
    variables = {"UNROLL_PORT": str(port), "UNROLL_GRACE_SECONDS": "120"}  # a busy machine writes slowly
    with Container(engine, image, variables=variables) as container:
        eventually(lambda: get(f"http://127.0.0.1:{port}/v1/models")[0] == 200, WAIT_SECONDS)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps(LONG), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        received = answer.readline()
        container.signal(signal.SIGTERM)
        refused = eventually(lambda: get(f"http://127.0.0.1:{port}/v1/completions", SHORT)[0] == 503, 5)
        promise("after SIGTERM it refuses new texts with 503", refused < 5, f"after {refused:.3f} s")
        health = container.inside(*image.health["Test"][1:])
        promise("and its health check says so", health.returncode == 1, health.stderr.strip()[:110])
        received += answer.read()
        events = [line[6:] for line in received.split(b"\n") if line.startswith(b"data: {")]
        choices = [choice for event in events for choice in json.loads(event).get("choices", ())]
        length = sum(len(choice["text"]) for choice in choices)
        whole = length == LONG["max_tokens"] and choices[-1]["finish_reason"] == "length" and b"[DONE]" in received
        promise("the text being streamed ends whole", whole, f"{length:,} characters in {len(events)} events")
        ended = container.wait(10)
        promise("then process 1 ends with 0", ended == 0, ended)


def _ends(promise: Promises, engine: Engine, image: Image, start_seconds: float) -> None:
    """A signal at any moment of the start ends process 1, where the kernel drops those nobody handles."""
    most = 2 + start_seconds  # a model that is being loaded is loaded first
    container = Container(engine, image, variables={"UNROLL_PORT": str(free_port())})
    for number in (signal.SIGTERM, signal.SIGINT):
        slowest, statuses, heard = 0.0, set(), 0.0
        for part in MOMENTS:
            container.start()
            while not container.catches(number):
                time.sleep(0.001)
            heard = max(heard, container.processor_seconds())
            time.sleep(part * start_seconds)
            container.signal(number)
            started = time.monotonic()
            statuses.add(container.wait(most))
            slowest = max(slowest, time.monotonic() - started)
        seen = f"{heard:.2f} s of processor"
        promise(f"it hears {number.name} before its first slow import", heard < 0.15, seen)
        seen = f"in {slowest:.2f} s at most, status {statuses}"
        promise(f"from then on {number.name} ends it", slowest < most and statuses <= {0, 128 + number}, seen)
    engine("rm", "--force", "--time=0", container.name)


def _own_model(promise: Promises, engine: Engine, image: Image, bundled: Path, work: Path) -> None:
    """`-v …:/models:ro -e UNROLL_MODEL=/models/mine`."""
    shutil.copytree(bundled, work / "models/mine", dirs_exist_ok=True)
    served = models_served(engine, image, "/models/mine", [f"--volume={(work / 'models').resolve()}:/models:ro"])
    promise("it serves a model of one's own", '"mine"' in served, served[:90])


def models_served(engine: Engine, image: Image, model: str, flags: list[str]) -> str:
    """What `/v1/models` says when the image serves a checkpoint."""
    port = free_port()
    variables = {"UNROLL_PORT": str(port), "UNROLL_MODEL": model}
    with Container(engine, image, "serve", variables=variables, flags=flags) as container:
        answered = eventually(lambda: get(f"http://127.0.0.1:{port}/v1/models")[0] == 200, WAIT_SECONDS)
        return get(f"http://127.0.0.1:{port}/v1/models")[1].decode() if answered < WAIT_SECONDS else container.log()


def _no_training(promise: Promises, engine: Engine, image: Image) -> None:
    with Container(engine, image, "train") as container:
        status = container.wait(30)
        words = container.log().strip()
    promise("`train` ends with a sentence that names the other image", status == 1 and "target `train`" in words, words)
