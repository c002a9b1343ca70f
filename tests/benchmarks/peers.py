"""Characters a second of this server, of llama.cpp's and of LitServe's: one client, one core each, one run."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any, NamedTuple

from tests.benchmarks import peer_programs
from tests.benchmarks.client import Client
from tests.benchmarks.engine import PROMPT
from tests.benchmarks.figures import Figure, counted
from tests.benchmarks.server_process import REPOSITORY, START_SECONDS, served
from tests.benchmarks.timing import CLIENT_CORE, SERVER_CORE, on_core, ratio, side_by_side

COUNTS = (1, 8, 64)  # streams
ROUNDS = 3
EVERY_CHARACTER = 35_000  # characters a second with an event for each, of 64 streams


class Peer(NamedTuple):
    """A server: how much each stream is to write, so that a round takes seconds, and what its requests have besides."""

    name: str
    port: int
    characters: int
    fields: dict[str, Any]


@contextmanager
def started(arguments: list[str], port: int, path: str, environment: dict[str, str]) -> Iterator[int]:
    """A server in a process on the server's core, from when its `path` answers 200 to the end of a `with` block."""
    with on_core(SERVER_CORE):
        process = subprocess.Popen(
            arguments,
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that its workers end with it
        )
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}{path}"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"`{' '.join(arguments)}` did not start.")
            time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def llama() -> Iterator[Peer]:
    """llama.cpp's server with the Transformer, one thread, as many sequences at once as there are streams."""
    port, most = _free_port(), max(COUNTS)
    flags = ["--threads", "1", "--threads-batch", "1", "--parallel", str(most)]
    flags += ["--ctx-size", str(512 * most), "--port", str(port), "--model", str(peer_programs.transformer())]
    with started([str(peer_programs.llama_server()), *flags], port, "/health", dict(os.environ)):
        fields = {"temperature": 1.0, "samplers": ["temperature"], "ignore_eos": True, "cache_prompt": False}
        yield Peer("llama.cpp, q8_0", port, 256, fields)


@contextmanager
def litserve() -> Iterator[Peer]:
    """LitServe with the loop of the tutorials."""
    port = _free_port()
    command = [sys.executable, "-m", "tests.benchmarks.peer_litserve", str(port)]
    with started(command, port, "/health", peer_programs.with_packages()):
        yield Peer("LitServe, the tutorials' loop", port, 100, {})


def rate(peer: Peer, count: int) -> Callable[[], float]:
    """Tokens a second (characters, for all three) of so many streams, from the first byte sent to the last received."""

    def run() -> float:
        with on_core(CLIENT_CORE), Client(peer.port) as client:
            connections = [client.open() for _ in range(count)]
            start = time.perf_counter()
            for stream in connections:
                seed = random.getrandbits(31)
                client.ask(stream, prompt=PROMPT, max_tokens=peer.characters, seed=seed, stream=True,
                           stream_options={"include_usage": True}, **peer.fields)  # fmt: skip
            while client.streams:
                for stream in client.turn():
                    if stream.ended is not None:
                        client.close(stream)  # at once: some servers close a connection that is idle for seconds
            seconds = time.perf_counter() - start
            written = sum(stream.written for stream in connections)
        if written != count * peer.characters:
            raise RuntimeError(f"{peer.name}: {count} × {peer.characters} characters were asked for, {written} came.")
        return written / seconds

    return run


def measure() -> list[Figure]:
    """All servers run and wait on one core while one of them writes; the client has the other core."""
    figures = []
    with ExitStack() as stack:
        port = stack.enter_context(served()).port
        ours = Peer("Unroll", port, 2_000, {})
        single = Peer("Unroll, an event a character", port, 1_000, {"stream_interval": 0})
        others = [stack.enter_context(llama()), stack.enter_context(litserve())]
        for count in COUNTS:
            peers = [ours, single, *others]
            rates = side_by_side([rate(peer, count) for peer in peers], ROUNDS)
            shown = counted(count, "stream")
            for peer, measured in zip(peers, rates, strict=True):
                target = EVERY_CHARACTER if peer is single and count == max(COUNTS) else None
                figures.append(Figure(f"{peer.name}, {shown}", median(measured), "characters/s", target))
            for peer, measured in zip(others, rates[2:], strict=True):
                figures.append(Figure(f"Unroll against {peer.name}, {shown}", ratio(rates[0], measured), "× rate"))
    return figures
