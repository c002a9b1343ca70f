"""Proves what the training image promises: it trains as nobody, on a root that is only read, and stops saved."""

import json
import re
import signal
import time
from pathlib import Path

from builder import Image
from container import Container
from promises import Promises, eventually, largest, megabytes, packages

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom and of foolishness. " * 400
SHORT = ("--epochs", "1", "--layers", "1", "--hidden", "32")


def prove_training(image: Image, work: Path) -> int:
    """How many promises are broken."""
    promise = Promises()
    size = megabytes(image.root / "opt/unroll")
    promise("the size is listed", True, f"{size:.1f} MB: {largest(packages(image), 6)} MB")
    cuda = [path.name for path in packages(image).glob("nvidia*")]
    promise("PyTorch came without CUDA", not cuda, cuda[:3] or "")
    data = work / "data"
    data.mkdir(exist_ok=True)
    (data / "book.txt").write_text(TEXT)
    data.chmod(0o777)  # as a folder of whoever starts the container
    _trains(promise, image, data, work)
    _stops(promise, image, data, work)
    return promise.broken


def _trains(promise: Promises, image: Image, data: Path, work: Path) -> None:
    log = work / "training.log"
    arguments = ["train", "/data/book.txt", *SHORT]
    with Container(image, arguments, log=log, binds=[f"{data}:/data"], tmpfs=["/tmp"]) as container:
        status = container.wait(300)
    words = log.read_text("utf-8")
    runs = sorted((data / "runs").glob("*/best/model.safetensors"))
    promise("`train /data/book.txt` ends well", status == 0, words.strip().splitlines()[-1][:100] if words else "")
    promise("its run lies in /data/runs", len(runs) == 1, [str(run.relative_to(data)) for run in runs])
    promise("nothing but the run was written", {path.name for path in data.iterdir()} == {"book.txt", "runs"})
    warned = re.findall(r".*[Ww]arning.*", words)
    promise("no library complains of its place", not warned, warned[:2] or "")
    serve = ["info", str(Path("/data") / runs[0].parent.relative_to(data)), "--json"] if runs else ["--help"]
    with Container(image, serve, log=log, binds=[f"{data}:/data"], tmpfs=["/tmp"]) as container:
        container.wait(60)
    promise("and is a checkpoint", json.loads(log.read_text("utf-8")).keys() if runs else False, "")


def _stops(promise: Promises, image: Image, data: Path, work: Path) -> None:
    """SIGTERM to process 1 while it trains: saved, and ended with 0."""
    log = work / "stopped.log"
    arguments = [
        "train",
        "/data/book.txt",
        "--minutes",
        "5",
        "--layers",
        "1",
        "--hidden",
        "32",
        "--out",
        "/data/runs/stopped",
    ]
    with Container(image, arguments, log=log, binds=[f"{data}:/data"], tmpfs=["/tmp"]) as container:
        began = eventually(lambda: "bits per character" in log.read_text("utf-8"), 120)
        container.signal(signal.SIGTERM)
        started = time.monotonic()
        status = container.wait(60)
    last = data / "runs/stopped/last/model.safetensors"
    seen = f"{time.monotonic() - started:.1f} s after the signal, {began:.0f} s into the run, status {status}"
    promise("SIGTERM ends a run as process 1, saved", status == 0 and last.exists(), seen)
