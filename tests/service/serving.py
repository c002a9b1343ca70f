"""Servers for tests: the real one on a free port, in a thread or in a process of its own."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint, load
from model.decoding.decoder import Decoder
from model.decoding.rows import Drawn, Rows, Scored, Slots
from model.generate import Piece, generate
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from service.app import Application, create_application
from service.engine.engine import Engine
from service.models.model_registry import ModelRegistry
from service.process.ledger import Ledger
from service.server import DrainingServer, make_server
from service.settings import Settings
from service.transport.listeners import listen
from service.transport.startup_gate import Gate

REPOSITORY = Path(__file__).parents[2]
ENDLESS = 100_000  # characters: a text that goes on for longer than any test


class SlowRows:
    """Rows that take their time, 2 ms a step."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    @property
    def state(self) -> NDArray[np.float32]:
        return self.rows.state

    def set(self, slot: int, sampling: RowSampling, last_id: int) -> None:
        self.rows.set(slot, sampling, last_id)

    def read(self, slots: Slots, ids: NDArray[np.int32]) -> None:
        time.sleep(0.002 * ids.shape[1])
        self.rows.read(slots, ids)

    def draw(self, slots: Slots, steps: int) -> Drawn:
        time.sleep(0.002 * steps)
        return self.rows.draw(slots, steps)

    def score(
        self,
        slots: Slots,
        ids: NDArray[np.int32],
        following: NDArray[np.int32],
        top: int | None = None,
        columns: NDArray[np.int32] | None = None,
        weights: bool = False,
    ) -> Scored:
        time.sleep(0.002 * ids.shape[1])
        return self.rows.score(slots, ids, following, top, columns, weights)


class SlowDecoder(Decoder):
    """A decoder that takes its time, so that a text is still being written when a test looks."""

    computes_here = False

    def rows(self, slots: int) -> Rows:
        return SlowRows(super().rows(slots))


@dataclass(frozen=True)
class Running:
    """A server that runs in a thread."""

    url: str
    client: httpx.Client
    server: DrainingServer
    engine: Engine
    ledger: Ledger
    model: str
    registry: ModelRegistry
    management: str | None = None

    def complete(self, prompt: Any = "a", **fields: Any) -> Any:
        """The body of a completion that is not streamed."""
        response = self.client.post("/v1/completions", json={"prompt": prompt, **fields})
        assert response.status_code == 200, response.text
        return response.json()


@contextmanager
def serving(settings: Settings, decoder: type[Decoder] = Decoder, management: bool = False) -> Iterator[Running]:
    """A server for a `with` block, with a port for its management or without; its grace is over with the block.

    It has one thread unless the settings say otherwise, so that texts stand in one batch on any machine.
    """
    settings = settings if settings.threads else replace(settings, threads=1)
    loaded: Queue[Application] = Queue()
    gate = Gate(partial(create_application, settings, decoder))
    gate.when_open(loaded.put)
    listeners = [listen("127.0.0.1", 0)[0] for _ in range(1 + management)]
    ports = [one.getsockname()[1] for one in listeners]
    server = make_server(gate, settings, management=ports[1] if management else None)
    url, *others = [f"http://127.0.0.1:{port}" for port in ports]
    thread = threading.Thread(target=server.run, kwargs={"sockets": listeners})
    thread.start()
    try:
        serves = loaded.get(timeout=10)
        with httpx.Client(base_url=url, timeout=100) as client:  # a law of texts, not of a busy machine
            default = serves.registry.default_name() or ""
            yield Running(url, client, server, serves.engine, serves.ledger, default, serves.registry, *others)
    finally:
        server.force_exit = server.should_exit = True
        thread.join()


PROGRAM = """
import sys
import unroll
from {module} import {rows} as Wrapped
from model.decoding.decoder import Decoder
rows = Decoder.rows
Decoder.rows = lambda decoder, slots: Wrapped(rows(decoder, slots))
sys.argv = ["unroll", "serve", *sys.argv[1:]]
unroll.main()
"""


@contextmanager
def serving_process(
    *arguments: str, rows: type | None = None, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program `unroll serve` in a process of its own, and its URL.

    rows: wrapped around the rows of its decoder, a class of any module of the tests.
    """
    program = ["-m", "unroll", "serve"]
    if rows is not None:
        program = ["-c", PROGRAM.format(module=rows.__module__, rows=rows.__name__)]
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = re.search(r"https?://\S+:\d+|unix:\S+", process.stdout.readline())
        assert url is not None
        yield process, url[0]
    finally:
        process.kill()
        process.communicate()


def program(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`unroll` and words, run to its end in an environment of ours and theirs."""
    return subprocess.run(
        [sys.executable, "-m", "unroll", *words],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether the condition comes true within some seconds, many of which only a busy machine needs."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Reference:
    """What the model writes when nothing is batched, streamed or served."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint: Checkpoint = load(folder)
        self.decoder = Decoder(self.checkpoint)

    def write(self, prompt: str | list[int], choice: int = 0, **fields: Any) -> Piece:
        """The text of one choice, why it ended, and how many ids were drawn, for the fields of a request."""
        stop = fields.get("stop") or ()
        names = set(SamplingParameters.__dataclass_fields__).intersection(fields)
        parameters = {name: fields[name] for name in names}
        if "logit_bias" in parameters:
            parameters["logit_bias"] = {int(token): bias for token, bias in parameters["logit_bias"].items()}
        pieces = list(
            generate(
                self.decoder,
                self.checkpoint.tokenizer,
                prompt,
                max_tokens=fields.get("max_tokens", 16),
                parameters=SamplingParameters(**parameters),
                stop=(stop,) if isinstance(stop, str) else stop,
                include_stop=fields.get("include_stop_str_in_output", False),
                min_tokens=fields.get("min_tokens", 0),
                choice=choice,
            )
        )
        before = prompt if isinstance(prompt, str) else self.checkpoint.tokenizer.decode(prompt)
        text = (before if fields.get("echo") else "") + "".join(piece.text for piece in pieces)
        return pieces[-1]._replace(text=text)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, in the order of their numbers; as Linux tells it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has ended
            continue
        if int(parent) == pid:
            found.append(int(folder.name))
    return sorted(found)
