"""Proves what the training image promises: it trains as anyone, on a root that is only read, and stops saved."""

import os
import re
import signal
import time
from pathlib import Path

from container import Container
from contents_proof import prove_configuration, prove_files
from engine import Engine, Image
from promises import Promises, eventually, packages
from serving_proof import models_served

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom and of foolishness. " * 400
SMALL = ("--layers", "1", "--hidden", "32")
ANYONE = 12_345  # who has no name in the image
MOST_MEGABYTES = 1_200


def prove_training(promise: Promises, engine: Engine, image: Image, serving: Image, work: Path) -> None:
    """Prove all of it; serving: the other image, which serves what this one trains."""
    prove_configuration(promise, image, {"Cmd": ["train", "--help"], "WorkingDir": "/data"})
    promise("it has no health check", image.health.get("Test") in (None, [], ["NONE"]), image.health.get("Test"))
    root = engine.mounted(image)
    prove_files(promise, image, root, never=set(), most=MOST_MEGABYTES)
    cuda = [path.name for path in packages(root).glob("nvidia*")]
    promise("PyTorch came without CUDA", not cuda, cuda[:3] or "")
    _helps(promise, engine, image)
    run = _trains(promise, engine, image, work)
    data = f"--volume={(work / 'data').resolve()}:/data:ro"
    served = models_served(engine, serving, f"/data/{run}/best", [data]) if run else ""
    promise("the serving image serves it", '"best"' in served or Path(run).name in served, served[:120])
    _stops(promise, engine, image, work)


def _helps(promise: Promises, engine: Engine, image: Image) -> None:
    with Container(engine, image) as container:
        status = container.wait(60)
        words = container.log()
    promise("without words it says how to train", status == 0 and "--epochs" in words, f"{len(words):,} characters")


def _data(work: Path, name: str, owner: int) -> Path:
    """A folder with a text in it that belongs to somebody."""
    data = work / name
    data.mkdir(exist_ok=True)
    (data / "book.txt").write_text(TEXT)
    os.chown(data, owner, owner)
    return data


def _trains(promise: Promises, engine: Engine, image: Image, work: Path) -> str:
    """The run it wrote, a path below /data."""
    data = _data(work, "data", ANYONE)
    flags = [f"--volume={data.resolve()}:/data", "--tmpfs=/tmp", f"--user={ANYONE}:{ANYONE}"]
    with Container(engine, image, "train", "/data/book.txt", "--epochs", "1", *SMALL, flags=flags) as container:
        status = container.wait(300)
        words = container.log()
    runs = sorted(data.glob("runs/*/best/model.safetensors"))
    promise("`train /data/book.txt` ends well", status == 0, words.strip().splitlines()[-1][:100] if words else "")
    promise("its run lies in /data/runs", len(runs) == 1, [str(run.relative_to(data)) for run in runs])
    promise("nothing but the run was written", {path.name for path in data.iterdir()} == {"book.txt", "runs"})
    owners = {path.stat().st_uid for path in (data / "runs").rglob("*")}
    promise("it belongs to the user of --user", owners == {ANYONE}, owners)
    warned = re.findall(r".*[Ww]arning.*", words)
    promise("no library complains of its place", not warned, warned[:2] or "")
    return str(runs[0].parents[1].relative_to(data)) if runs else ""


def _stops(promise: Promises, engine: Engine, image: Image, work: Path) -> None:
    """SIGTERM to process 1 while it trains as the image's user: saved, and ended with 0."""
    data = _data(work, "stopped", int(image.config["User"].split(":")[0]))
    flags = [f"--volume={data.resolve()}:/data", "--tmpfs=/tmp"]
    words = ["train", "/data/book.txt", "--minutes", "5", *SMALL, "--out", "/data/runs/stopped"]
    with Container(engine, image, *words, flags=flags) as container:
        began = eventually(lambda: "bits per character" in container.log(), 120)
        container.signal(signal.SIGTERM)
        started = time.monotonic()
        status = container.wait(60)
    last = data / "runs/stopped/last/model.safetensors"
    seen = f"{time.monotonic() - started:.1f} s after the signal, {began:.0f} s into the run, status {status}"
    promise("SIGTERM ends a run as process 1, saved", status == 0 and last.exists(), seen)
