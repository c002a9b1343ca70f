"""Several models of bundled size: swapped under streams and a thousand times, many at once, cold, beside a crowd."""

import http.client
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from model.checkpoint import BUNDLED, CONFIG, TOKENIZER, WEIGHTS, Checkpoint, load, save
from tests.benchmarks.client import Client
from tests.benchmarks.figures import Figure
from tests.benchmarks.server_process import ServerProcess, served
from tests.benchmarks.timing import CLIENT_CORE, on_core, percentile
from tests.load.crowd import crowd

STREAMS, SWAPS, MANY_SWAPS, MODELS, COLD = 64, 100, 1000, 32, 40
TEXTS = [{"prompt": f"Scene {at}.\n", "max_tokens": 300, "seed": at} for at in range(8)]
LONGEST_WAIT = 60.0


def versions(count: int) -> list[Checkpoint]:
    """Checkpoints as large as the bundled one, each with texts of its own."""
    bundled = load(BUNDLED)
    bias = bundled.tensors["out.bias"]
    return [replace(bundled, tensors={**bundled.tensors, "out.bias": bias * (1 + at / 10)}) for at in range(count)]


@contextmanager
def folder_of(checkpoints: dict[str, Checkpoint]) -> Iterator[Path]:
    """A folder with some models, on a disk."""
    with tempfile.TemporaryDirectory() as made:
        for name, checkpoint in checkpoints.items():
            save(checkpoint, Path(made) / name)
        yield Path(made)


def ask(server: ServerProcess, path: str, body: dict[str, Any] | None = None) -> Any:
    """An answer with status 200, as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONGEST_WAIT)
    content = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, content, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {said[:200]!r}")
    return json.loads(said)


def swap(server: ServerProcess, prepared: Path, place: Path, hurry: bool = False) -> float:
    """Put a checkpoint in the place of another by a rename; seconds until it is served."""
    before = ask(server, "/v1/models/one")["digest"]
    aside = place.with_name(".aside")
    shutil.copytree(prepared, place.with_name(".next"))
    began = time.perf_counter()
    place.rename(aside)
    place.with_name(".next").rename(place)
    if hurry:
        os.kill(server.pid, signal.SIGHUP)
    while ask(server, "/v1/models/one")["digest"] == before:
        time.sleep(0.002)
        if time.perf_counter() - began > LONGEST_WAIT:
            raise TimeoutError("the new version was not served")
    took = time.perf_counter() - began
    shutil.rmtree(aside)
    return took


class Streams:
    """Clients that ask for known texts again and again, and hold each against its version's own."""

    def __init__(self, port: int, expected: dict[str, list[str]]) -> None:
        self.expected = expected
        self.whole = self.failed = self.changed = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(port,))

    def __enter__(self) -> "Streams":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self, port: int) -> None:
        with on_core(CLIENT_CORE), Client(port) as client:
            asked = {client.open(): at % len(TEXTS) for at in range(STREAMS)}
            for stream, at in asked.items():
                stream.keep = True
                client.ask(stream, model="one", stream=True, **TEXTS[at])
            while not self._over.is_set():
                try:
                    ended = [stream for stream in client.turn() if stream.ended is not None]
                except (RuntimeError, OSError):
                    self.failed += 1
                    return
                for stream in ended:
                    self._judge(b"".join(stream.kept).decode(), asked[stream])
                    client.ask(stream, model="one", stream=True, **TEXTS[asked[stream]])

    def _judge(self, kept: str, at: int) -> None:
        chunks = [json.loads(line[6:]) for line in kept.splitlines() if line.startswith("data: {")]
        text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
        versions = {chunk["system_fingerprint"] for chunk in chunks}
        self.whole += 1
        self.failed += any("error" in chunk for chunk in chunks)
        self.changed += len(versions) != 1 or text != self.expected[versions.pop()][at]


def texts_of(server: ServerProcess) -> tuple[str, list[str]]:
    """The fingerprint of the version that is served, and its texts."""
    answers = [ask(server, "/v1/completions", {"model": "one", **fields}) for fields in TEXTS]
    return answers[0]["system_fingerprint"], [answer["choices"][0]["text"] for answer in answers]


def swapping(prepared: list[Path]) -> list[Figure]:
    """Swaps under streams; then many more, without."""
    with folder_of({"one": load(BUNDLED)}) as folder, served("--models", str(folder)) as server:
        expected = dict([texts_of(server)])
        for one in prepared:
            swap(server, one, folder / "one")
            expected.update([texts_of(server)])
        with Streams(server.port, expected) as streams:
            times = [swap(server, prepared[at % 2], folder / "one") for at in range(SWAPS)]
        hurried = [swap(server, prepared[at % 2], folder / "one", hurry=True) for at in range(SWAPS)]
        before = server.resident_megabytes
        for at in range(MANY_SWAPS - SWAPS):
            swap(server, prepared[at % 2], folder / "one", hurry=True)
        grown = server.resident_megabytes - before
    return [
        Figure(f"texts of {STREAMS} streams during {SWAPS} swaps", streams.whole, "texts"),
        Figure("of them failed", streams.failed, "texts", 0, "most"),
        Figure("of them with other bytes than their version's", streams.changed, "texts", 0, "most"),
        Figure("from a rename until the version is served, beside the streams, p50", 1e3 * median(times), "ms"),
        Figure("the same, longest", 1e3 * max(times), "ms", 1000, "most"),
        Figure("the same with a SIGHUP, idle, p50", 1e3 * median(hurried), "ms", 300, "most"),
        Figure(f"memory after {SWAPS} swaps", before, "MB"),
        Figure(f"growth until {MANY_SWAPS} swaps", grown, "MB", 10, "most"),
    ]


def linked(folder: Path) -> None:
    """Weights that are a link out of the folder."""
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/proc/self/mem")


def damaged(folder: Path) -> None:
    """A bit of the weights is another."""
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-100] ^= 1
    (folder / WEIGHTS).write_bytes(content)


SPOILT: list[Callable[[Path], object]] = [
    lambda folder: os.truncate(folder / WEIGHTS, 1_000_000),
    lambda folder: (folder / CONFIG).write_text('{"architectures": ["LlamaForCausalLM"]}'),
    lambda folder: (folder / TOKENIZER).write_text("[" * 100_000),
    linked,
    damaged,
]


def refusing(prepared: Path) -> list[Figure]:
    """Replacements that fail their checks, under streams."""
    with folder_of({"one": load(BUNDLED)}) as folder, served("--models", str(folder)) as server:
        expected = dict([texts_of(server)])
        said: list[str] = []
        with Streams(server.port, expected) as streams:
            for spoil in SPOILT:
                shutil.copytree(prepared, folder / ".next")
                spoil(folder / ".next")
                (folder / "one").rename(folder / ".aside")
                (folder / ".next").rename(folder / "one")
                deadline = time.monotonic() + LONGEST_WAIT
                while (problem := ask(server, "/health")["models"]["problems"].get("one", "")) in ["", *said]:
                    time.sleep(0.01)
                    if time.monotonic() > deadline:
                        raise TimeoutError("a replacement was not refused")
                said.append(problem)
                shutil.rmtree(folder / ".aside")
    return [
        Figure(f"texts of {STREAMS} streams during {len(said)} replacements that are refused", streams.whole, "texts"),
        Figure("of them failed or with other bytes", streams.failed + streams.changed, "texts", 0, "most"),
    ]


def many() -> list[Figure]:
    """Many models in memory, each asked once; then few places for them."""
    names = [f"m{at}" for at in range(MODELS)]
    with folder_of(dict(zip(names, versions(MODELS), strict=True))) as folder:
        with served("--models", str(folder)) as server:
            for name in names:
                ask(server, "/v1/completions", {"model": name, **TEXTS[0]})
            resident = server.resident_megabytes
        with served("--models", str(folder), "--max-loaded-models", "4") as server:
            cold = []
            for at in range(COLD):
                time.sleep(0.1)
                began = time.perf_counter()
                ask(server, "/v1/completions", {"model": names[at % MODELS], "prompt": "a", "max_tokens": 1})
                cold.append(time.perf_counter() - began)
    return [
        Figure(f"memory of {MODELS} models of bundled size, each used", resident, "MB", 350, "most"),
        Figure("first character of a cold model, p50", 1e3 * median(cold[5:]), "ms"),
        Figure("the same, longest", 1e3 * max(cold[5:]), "ms", 300, "most"),
    ]


def gaps(client: Client, model: str, seconds: float = 4.0) -> list[float]:
    """Seconds between the arrivals of one stream that sends every call's characters at once."""
    stream = client.open()
    stream.watch = True
    client.ask(stream, prompt="a", model=model, max_tokens=100_000, seed=1, stream=True, stream_interval=0)
    client.wait(lambda: stream.first is not None)
    client.run_for(seconds)
    found = [after - before for (before, _), (after, _) in pairwise(stream.arrivals)]
    client.close(stream)
    return found


def beside_a_crowd() -> list[Figure]:
    """One text of a model beside many of another, and beside as many of its own."""
    with (
        folder_of(dict(zip(("one", "two"), versions(2), strict=True))) as folder,
        served("--models", str(folder), "--default-model", "one") as server,
        on_core(CLIENT_CORE),
        Client(server.port) as client,
    ):
        name = "between two arrivals of a text"
        found = {f"{name} alone": gaps(client, "two")}
        for model, words in (("two", "another model"), ("one", "its own")):
            with crowd(server.port, STREAMS, STREAMS):
                found[f"{name} beside {STREAMS} of {words}"] = gaps(client, model)
    figures = [Figure(f"{words}, p99", 1e3 * percentile(seconds, 99), "ms") for words, seconds in found.items()]
    alone, beside, among = (figure.value for figure in figures)
    figures.append(Figure("beside another's crowd against among its own", beside / max(among, alone), "×", 2, "most"))
    return figures


def measure() -> list[Figure]:
    """All figures of several models."""
    with tempfile.TemporaryDirectory() as made:
        prepared = []
        for at, checkpoint in enumerate(versions(3)[1:]):
            save(checkpoint, Path(made) / str(at))
            prepared.append(Path(made) / str(at))
        return [*beside_a_crowd(), *many(), *refusing(prepared[0]), *swapping(prepared)]
