"""Text that must match against free text, and what compiling patterns costs everyone else.

The network has the bundled one's shape and random weights, and knows ASCII, which the bundled one does not.
"""

import asyncio
import http.client
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from model.checkpoint import Checkpoint, save
from model.constraints.compiling import Compiled, compiled
from model.constraints.constraint import Constraint, Kind
from model.constraints.vocabulary import Vocabulary
from model.decoding.decoder import Decoder
from model.sampling.parameters import SamplingParameters
from service.engine.engine import Engine
from service.engine.sequence import EngineModel, SequenceGroup, Tables
from service.engine.text_request import TextRequest
from service.inference.constraints import Constraints
from service.settings import Settings
from tests.benchmarks.client import Client
from tests.benchmarks.figures import Figure, counted
from tests.benchmarks.latency import arrivals_of_streams, gaps
from tests.benchmarks.server_process import ServerProcess, served
from tests.benchmarks.timing import CLIENT_CORE, SERVER_CORE, on_core, percentile, ratio, side_by_side
from tests.model.small import small_checkpoint

ASCII = "\n" + "".join(map(chr, range(32, 127)))
FIVE_FIELDS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "email": {"type": "string", "minLength": 5, "maxLength": 30},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
        "active": {"type": "boolean"},
    },
    "required": ["name", "age", "email", "tags", "active"],
}
PATTERNS: dict[str, tuple[Kind, str]] = {
    "a date": ("regex", r"(19|20)\d{2}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"),
    "a schema of five fields": ("json_schema", json.dumps(FIVE_FIELDS)),
    "one of 200 choices": ("choice", json.dumps([f"choice number {number * 7919}" for number in range(200)])),
    "any JSON object": ("json_object", ""),
    "a grammar in GBNF": ("grammar", 'root ::= "[" ([a-z]+ | root) ("," ([a-z]+ | root))* "]"'),
    "a grammar in Lark, step by step": ("grammar", 'start: "[" (/[a-z]+/ | start) ("," (/[a-z]+/ | start))* "]"'),
}
TEXTS = 64  # of each measurement
MOST = 200  # characters
SWITCH_SECONDS = 1e-4
RATE, FLOODS = 100, 4  # schemas sent a second, and on so many connections
HOSTILE: list[dict[str, Any]] = [
    {"guided_regex": "((a{99}){99}){99}"},
    {"guided_regex": "[ab]*a[ab]{20}", "max_tokens": 0},
    {"guided_regex": "|".join(f"word{number}" for number in range(900)), "max_tokens": 0},
    {"guided_regex": "(" * 32 + "a" + ")*" * 32, "max_tokens": 0},
    {"guided_json": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}},
    {"guided_json": {"$ref": "https://example.com/schema.json"}},
    {"guided_json": {"const": "a" * 60_000}, "max_tokens": 0},
    {"guided_json": {"allOf": [{"type": "string"}, {"type": "integer"}]}},
]


class Writer:
    """An engine whose texts may have to match something."""

    def __init__(self, checkpoint: Checkpoint, decoder: Decoder, engine: Engine, runner: asyncio.Runner) -> None:
        self._engine, self._runner = engine, runner
        self._model = EngineModel(decoder, checkpoint.tokenizer)

    def seconds(self, rows: int, lengths: list[int], constraint: Compiled | None) -> float:
        """Seconds of texts of at most these lengths, so many at once."""
        return self.write(rows, lengths, constraint)[0]

    def write(self, rows: int, lengths: list[int], constraint: Compiled | None) -> tuple[float, list[int]]:
        """The same, and how long each became."""

        async def one(seed: int, most: int) -> int:
            request = TextRequest(prompts=["a"], parameters=SamplingParameters(seed=seed), max_tokens=most)
            tables = Tables(self._model.tokenizer, self._model.ids, request, constraint)
            group = SequenceGroup(self._model, request, tables=tables)
            self._engine.submit(group)
            ((_, piece),) = await group.output.take()
            self._engine.release(group)
            return piece.tokens

        async def some(share: list[tuple[int, int]]) -> list[int]:
            return [await one(*each) for each in share]

        async def run() -> tuple[float, list[int]]:
            asked = list(enumerate(lengths))
            start = time.perf_counter()
            written = await asyncio.gather(*(some(asked[row::rows]) for row in range(rows)))
            seconds = time.perf_counter() - start
            return seconds, [written[at % rows][at // rows] for at in range(len(lengths))]

        return self._runner.run(run())


@contextmanager
def writer(checkpoint: Checkpoint) -> Iterator[Writer]:
    """An engine with the settings a server has by default, for a `with` block."""
    engine, decoder = Engine(Settings()), Decoder(checkpoint)
    with asyncio.Runner() as runner:
        engine.start(runner.get_loop())
        try:
            yield Writer(checkpoint, decoder, engine, runner)
        finally:
            engine.stop()


def against_free(checkpoint: Checkpoint, alone: Writer) -> list[Figure]:
    """Texts that match against free ones of the same lengths, in turn."""
    vocabulary = Vocabulary(checkpoint.tokenizer, checkpoint.seen())
    figures = []
    for name, (kind, source) in PATTERNS.items():
        constraint = compiled(Constraint(kind, source), vocabulary)
        for rows in (1, 32):
            _, lengths = alone.write(rows, [MOST] * TEXTS, constraint)
            free = partial(alone.seconds, rows, lengths, None)
            bound = partial(alone.seconds, rows, [MOST] * TEXTS, constraint)
            theirs, ours = side_by_side([free, bound], 9)
            label = f"{name}, {counted(rows, 'row')}"
            figures.append(Figure(label, sum(lengths) / median(ours), "characters/s"))
            target = 0.85 if constraint.exact else None
            figures.append(Figure(f"{label}, against free text of the same length", ratio(theirs, ours), "×", target))
    return figures


def schemas() -> Iterator[dict[str, Any]]:
    """Schemas of five fields, each another."""
    for number in itertools.count():
        properties = {f"{name}_{number}": inner for name, inner in FIVE_FIELDS["properties"].items()}
        yield {**FIVE_FIELDS, "properties": properties, "required": list(properties)}


def compiling(checkpoint: Checkpoint) -> list[Figure]:
    """Seconds to compile schemas of five fields in the server's process for it, and to find one again."""

    async def run() -> tuple[list[float], list[float]]:
        constraints = Constraints(checkpoint.tokenizer, checkpoint.seen(), Settings())
        asked = [Constraint.of_value("json_schema", schema, "") for schema in itertools.islice(schemas(), 201)]
        try:
            await constraints.get(asked.pop())
            new = [await timed(constraints, one) for one in asked]
            return new, [await timed(constraints, Constraint(one.kind, str(one.source))) for one in asked]
        finally:
            await constraints.close()

    async def timed(constraints: Constraints, one: Constraint) -> float:
        start = time.perf_counter()
        await constraints.get(one)
        return time.perf_counter() - start

    new, again = asyncio.run(run())
    return [
        Figure("a schema of five fields, compiled, p50", 1e3 * median(new), "ms"),
        Figure("a schema of five fields, compiled, p99", 1e3 * percentile(new, 99), "ms"),
        Figure("a schema that was compiled before, p99", 1e3 * percentile(again, 99), "ms", 0.1, "most"),
    ]


@contextmanager
def flooded(port: int, bodies: Iterator[dict[str, Any]], pause: float, threads: int = 1) -> Iterator[list[int]]:
    """Requests one after the other on some connections, for a `with` block; the statuses of their answers.

    Their threads let go of the interpreter often, so that the client that measures in another waits little for them.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    over, statuses, lock = threading.Event(), [], threading.Lock()

    def flood() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        due = time.perf_counter()
        while not over.is_set():
            with lock:
                body = json.dumps({"prompt": "a", "max_tokens": 1, **next(bodies)})
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
            due = max(due + pause, time.perf_counter() - pause)
            time.sleep(max(0, due - time.perf_counter()))
        connection.close()

    running = [threading.Thread(target=flood) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield statuses
    finally:
        over.set()
        for thread in running:
            thread.join()
        sys.setswitchinterval(interval)


def move_compiler(server: ServerProcess, core: int) -> None:
    """Let the server's other process run on a core; there has to be one."""
    (child,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    os.sched_setaffinity(int(child), {core})


def others_gap(client: Client, server: ServerProcess, core: int, where: str) -> list[Figure]:
    """The gap between arrivals of 8 streams, without and while 100 schemas a second are sent, as many as are compiled.

    On the engine's core the compiling process gets what its niceness leaves it. On the other one the client that
    measures runs beside it and is held up by it, too: that figure has no target.
    """
    port = server.port
    new, rates = schemas(), []
    quiet, plain, loud = [], [], []
    with flooded(port, ({"guided_json": schema} for schema in new), 1):
        client.run_for(1)
    move_compiler(server, core)
    for _ in range(5):
        quiet.append(gaps(arrivals_of_streams(client, ""))[0])
        with flooded(port, itertools.repeat({"max_tokens": 0}), FLOODS / RATE, FLOODS):
            plain.append(gaps(arrivals_of_streams(client, ""))[0])
        with flooded(port, ({"guided_json": schema} for schema in new), FLOODS / RATE, FLOODS) as statuses:
            start, before = time.perf_counter(), len(statuses)
            loud.append(gaps(arrivals_of_streams(client, ""))[0])
            rates.append((len(statuses) - before) / (time.perf_counter() - start))
    name = "gap between arrivals of 8 streams, p99"
    target = 1.2 if core == SERVER_CORE else None
    return [
        Figure(f"{name}, without", 1e3 * median(quiet[1:]), "ms"),
        Figure(f"schemas compiled beside them {where}", median(rates[1:]), "a second"),
        Figure(f"{name}, with them, against without", ratio(loud[1:], quiet[1:]), "×"),
        Figure(f"{name}, with them, against plain requests", ratio(loud[1:], plain[1:]), "×", target, "most"),
    ]


def live(port: int) -> list[Figure]:
    """/health/live while four clients send hostile patterns, each a little different, without a pause."""
    numbered = itertools.count()

    def bodies() -> Iterator[dict[str, Any]]:
        for body in itertools.cycle(HOSTILE):
            yield {name: another(value, next(numbered)) for name, value in body.items()}

    def another(value: Any, number: int) -> Any:
        """The same a little different."""
        if isinstance(value, dict):
            return {**value, "title": str(number)}
        return f"{value}{number}?" if isinstance(value, str) else value

    seconds = []
    with flooded(port, bodies(), 0, 4) as statuses:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        deadline = time.perf_counter() + 8
        while time.perf_counter() < deadline:
            start = time.perf_counter()
            connection.request("GET", "/health/live")
            connection.getresponse().read()
            seconds.append(time.perf_counter() - start)
            time.sleep(0.005)
        connection.close()
    if not {400} <= set(statuses) <= {200, 400, 429, 503}:
        raise RuntimeError(f"hostile patterns were answered with {set(statuses)}")
    return [
        Figure("/health/live while hostile patterns are sent, p50", 1e3 * median(seconds), "ms"),
        Figure("/health/live while hostile patterns are sent, p99", 1e3 * percentile(seconds, 99), "ms", 10, "most"),
        Figure("hostile patterns answered", len(statuses) / 8, "a second"),
    ]


def measure() -> list[Figure]:
    """One thread for the engine; a server on one core, its clients on the other."""
    checkpoint = small_checkpoint(layers=2, hidden=512, embedding=48, characters=ASCII, skip=True)
    with writer(checkpoint) as alone:
        figures = against_free(checkpoint, alone)
    figures += compiling(checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        save(checkpoint, Path(folder) / "ascii")
        with on_core(CLIENT_CORE), served(str(Path(folder) / "ascii")) as server, Client(server.port) as client:
            return [
                *figures,
                *others_gap(client, server, CLIENT_CORE, "on another core"),
                *others_gap(client, server, SERVER_CORE, "on the engine's core"),
                *live(server.port),
            ]
