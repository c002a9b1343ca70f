"""Proves what the serving image promises, from its files to its last word after SIGTERM."""

import http.client
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from builder import Image
from container import Container
from promises import Promises, eventually, free_port, get, largest, megabytes, packages

MOST_MEGABYTES = 250
KERNELS = ("avx512", "avx2", "neon")
WAIT_SECONDS = 60  # for a server to answer; it takes one or two where nothing else runs
MOMENTS = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # of the time it takes to start
LONG = {"prompt": "a", "max_tokens": 30_000, "seed": 1, "stream": True}
SHORT = {"prompt": "ROMEO:\n", "max_tokens": 40, "seed": 4}


def prove_serving(image: Image, work: Path) -> int:
    """How many promises are broken."""
    promise = Promises()
    _files(promise, image)
    start_seconds = _runs(promise, image, work / "serving.log")
    _drains(promise, image, work / "drain.log")
    _ends(promise, image, work / "ends.log", start_seconds)
    _own_model(promise, image, work)
    _no_training(promise, image, work / "train.log")
    return promise.broken


def _files(promise: Promises, image: Image) -> None:
    folder = packages(image)
    size = megabytes(image.root / "opt/unroll")
    promise(f"dependencies and code take at most {MOST_MEGABYTES} MB", size <= MOST_MEGABYTES, f"{size:.1f} MB")
    promise("the largest are listed", True, largest(folder, 12) + " MB")
    ground = megabytes(image.root) - size
    promise("the rest of the root is listed", True, f"{ground:.1f} MB, of Debian and its Python here")
    names = {path.name.lower() for path in folder.iterdir()}
    unwanted = {"torch", "pip", "setuptools", "huggingface_hub", "hf_xet", "onnxruntime", "tests"}
    promise("neither PyTorch nor pip nor a client of a hub is installed", not names & unwanted, names & unwanted or "")
    tools = [name for name in ("gcc", "cc", "ld", "strip") if shutil.which(name, path=str(image.root / "usr/bin"))]
    promise("there is no compiler", not tools, tools or "")
    caches = [name for name in ("root/.cache", "build") if (image.root / name).exists()]
    promise("there is neither pip's cache nor a build folder", not caches, caches or "")
    promise("its user is a number, and not root's", image.user == "10001:10001", image.user)
    stale = [path for path in folder.rglob("*.py") if not list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc"))]
    promise("every module is compiled", not stale, f"{len(stale)} are not" if stale else "")
    loose = subprocess.run(
        ["find", image.root / "opt/unroll", "-not", "-type", "l", "(", "-perm", "/022", "-o", "-uid", "10001", ")"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    promise("its user can change nothing of the program", not loose, loose[:3] or "")


def _runs(promise: Promises, image: Image, log: Path) -> float:
    """How long it took to start, in seconds."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    started = time.monotonic()
    with Container(image, log=log, environment={"UNROLL_PORT": str(port)}) as container:
        served = eventually(lambda: get(f"{url}/v1/models")[0] == 200, WAIT_SECONDS) < WAIT_SECONDS
        start_seconds = time.monotonic() - started
        used = f"{start_seconds:.2f} s after the start, {container.processor_seconds():.2f} s of processor"
        promise("it serves", served, f"first answer {used}")
        facts = container.status()
        promise("the program is process 1", facts["NSpid"].split()[-1] == "1", facts["Name"])
        promise("it is nobody's user", facts["Uid"].split()[0] == "10001", f"uid {facts['Uid'].split()[0]}")
        none = int(facts["CapEff"], 16) == 0 == int(facts["CapBnd"], 16)
        promise("it has no capability, and can get none", none and facts["NoNewPrivs"] == "1")
        tried = container.inside("sh", "-c", "touch /opt/unroll/x || touch /tmp/x || touch /var/tmp/x || touch /x")
        promise("nothing in its root can be written", tried.returncode != 0, tried.stderr.strip().splitlines()[0])
        status, body = get(f"{url}/v1/completions", SHORT)
        text = json.loads(body)["choices"][0]["text"] if status == 200 else ""
        promise("it answers a completion", len(text) == SHORT["max_tokens"], repr(text[:30]))
        kernel = re.search(r"parameters in int8 on (\w+)", log.read_text("utf-8"))
        promise("its kernel was compiled", kernel and kernel[1] in KERNELS, kernel[1] if kernel else "")
        before = time.monotonic()
        health = container.inside(*image.health)
        took = time.monotonic() - before
        promise("its health check finds it well", health.returncode == 0, f"{health.stdout.strip()} {took:.2f} s")
        other = container.inside(*image.health, UNROLL_PORT=str(free_port()))
        promise("and finds nobody where nobody is", other.returncode == 1, other.stderr.strip()[:90])
        promise(
            "it is small in memory", True, f"{container.status()['VmRSS'].strip()}, at most {facts['VmHWM'].strip()}"
        )
    return start_seconds


def _drains(promise: Promises, image: Image, log: Path) -> None:
    """SIGTERM while a text is written: the text ends whole, new ones are refused, and the process ends with 0."""
    port = free_port()
    variables = {"UNROLL_PORT": str(port), "UNROLL_GRACE_SECONDS": "120"}  # a busy machine writes slowly
    with Container(image, log=log, environment=variables) as container:
        eventually(lambda: get(f"http://127.0.0.1:{port}/v1/models")[0] == 200, WAIT_SECONDS)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps(LONG), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        received = answer.readline()
        container.signal(signal.SIGTERM)
        refused = eventually(lambda: get(f"http://127.0.0.1:{port}/v1/completions", SHORT)[0] == 503, 5)
        promise("after SIGTERM it refuses new texts with 503", refused < 5, f"after {refused:.3f} s")
        health = container.inside(*image.health)
        promise("and its health check says so", health.returncode == 1, health.stderr.strip()[:110])
        received += answer.read()
        events = [line[6:] for line in received.split(b"\n") if line.startswith(b"data: {")]
        choices = [choice for event in events for choice in json.loads(event).get("choices", ())]
        length = sum(len(choice["text"]) for choice in choices)
        whole = length == LONG["max_tokens"] and choices[-1]["finish_reason"] == "length" and b"[DONE]" in received
        promise("the text being streamed ends whole", whole, f"{length:,} characters in {len(events)} events")
        promise("then process 1 ends with 0", container.wait(10) == 0)


def _ends(promise: Promises, image: Image, log: Path, start_seconds: float) -> None:
    """A signal at any moment of the start ends process 1, where the kernel drops those nobody handles."""
    most = 2 + start_seconds  # a model that is being loaded is loaded first
    for number in (signal.SIGTERM, signal.SIGINT):
        slowest, statuses, heard = 0.0, set(), 0.0
        for part in MOMENTS:
            with Container(image, log=log, environment={"UNROLL_PORT": str(free_port())}) as container:
                while not container.catches(number):
                    time.sleep(0.001)
                heard = max(heard, container.processor_seconds())
                time.sleep(part * start_seconds)
                container.signal(number)
                started = time.monotonic()
                statuses.add(_ended(container, most))
                slowest = max(slowest, time.monotonic() - started)
        promise(f"it hears {number.name} before its first slow import", heard < 0.1, f"{heard:.2f} s of processor")
        seen = f"in {slowest:.2f} s at most, status {statuses}"
        promise(f"from then on {number.name} ends it", slowest < most and -1 not in statuses, seen)


def _ended(container: Container, seconds: float) -> int:
    try:
        return container.wait(seconds)
    except subprocess.TimeoutExpired:
        return -1


def _own_model(promise: Promises, image: Image, work: Path) -> None:
    """`-v …:/models -e UNROLL_MODEL=/models/mine`."""
    shutil.copytree(packages(image) / "model/bundled", work / "models/mine", dirs_exist_ok=True)
    port = free_port()
    variables = {"UNROLL_PORT": str(port), "UNROLL_MODEL": "/models/mine"}
    log = work / "own.log"
    with Container(image, log=log, environment=variables, binds=[f"{work / 'models'}:/models"]):
        eventually(lambda: get(f"http://127.0.0.1:{port}/v1/models")[0] == 200, WAIT_SECONDS)
        _, body = get(f"http://127.0.0.1:{port}/v1/models")
        promise("it serves a model of one's own", b'"mine"' in body, body.decode()[:90])


def _no_training(promise: Promises, image: Image, log: Path) -> None:
    with Container(image, ["train"], log=log) as container:
        status = _ended(container, 30)
    words = log.read_text("utf-8").strip()
    promise("`train` ends with a sentence that names the other image", status == 1 and "target `train`" in words, words)
