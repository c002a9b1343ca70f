"""Scoring: many texts side by side against generating as many, and the time and memory a whole book takes."""

import asyncio
import json
import os
import re
import time
from functools import partial
from pathlib import Path
from statistics import median

import httpx

from model.bulk.score import LineScorer
from model.checkpoint import BUNDLED, load
from model.decoding.decoder import Decoder
from model.held_out_surprise import HeldOutSurprise
from service.analysis.score_answer import ScoreAnswer
from service.analysis.score_schemas import ScoreRequest
from service.engine.engine import Engine
from service.inference.served_model import ServedModel
from service.inference.texts import Texts
from service.settings import Settings
from tests.benchmarks.engine import EngineAlone, random_prompt
from tests.benchmarks.figures import Figure
from tests.benchmarks.server_process import served
from tests.benchmarks.timing import CLIENT_CORE, SERVER_CORE, on_core, ratio, side_by_side

TEXTS, CHARACTERS = 128, 4000
LINES = 6000  # of up to 80 characters, in one body
REMEMBERED = 4000  # characters of a text with memory
BOOK = int(os.environ.get("BENCHMARK_BOOK_CHARACTERS", "1000000"))  # War and Peace has 3.2 million
LONGEST_WAIT = 600  # seconds for the book


def score(model: ServedModel, engine: Engine, runner: asyncio.Runner, texts: list[str], memory: bool = False) -> float:
    """Seconds of a request for the scores of some texts, from its fields to its answer as JSON, without HTTP."""

    async def run() -> float:
        start = time.perf_counter()
        answer = ScoreAnswer(model, ScoreRequest(texts=texts, memory=memory))
        wanted = await Texts.prepare(model, engine, answer.request({}))
        answer.expect(wanted)
        wanted.submit()
        await wanted.take()
        wanted.release()
        "".join(answer.parts())
        return time.perf_counter() - start

    return runner.run(run())


def side_by_side_texts() -> list[Figure]:
    """128 texts of 4,000 characters scored, and as many generated, by one engine in turns."""
    model = ServedModel.load(Settings())
    engine = Engine(Settings())
    texts = [random_prompt(CHARACTERS) for _ in range(TEXTS)]
    with asyncio.Runner() as runner:
        engine.start(runner.get_loop())
        try:
            alone = EngineAlone(load(BUNDLED), model.decoder, engine, runner)
            scored, written = side_by_side(
                [lambda: score(model, engine, runner, texts), lambda: alone.write(TEXTS, CHARACTERS)], 3
            )
        finally:
            engine.stop()
    every = TEXTS * CHARACTERS
    name = f"scoring {TEXTS} texts of {CHARACTERS:,} characters"
    return [
        Figure(name, every / median(scored), "characters/s"),
        Figure(f"generating {TEXTS} texts of {CHARACTERS:,} characters", every / median(written), "characters/s"),
        Figure(f"{name} against generating as many", ratio(written, scored), "×", 0.7),
    ]


def remembered() -> list[Figure]:
    """A stretch of prose, and 64 side by side, scored with the online memory and without, by one engine in turns."""
    model = ServedModel.load(Settings())
    engine = Engine(Settings())
    prose = "".join(path.read_text("utf-8") for path in sorted((Path(__file__).parents[2] / "docs").glob("*.md")))
    every = [prose[at * 777 :][:REMEMBERED] for at in range(64)]
    figures = []
    with asyncio.Runner() as runner:
        engine.start(runner.get_loop())
        try:
            for count in (1, 64):
                ask = partial(score, model, engine, runner, every[:count])
                plain, beside = side_by_side([ask, partial(ask, memory=True)], 3)
                name = f"scoring {count} × {REMEMBERED:,} characters with the online memory against without"
                figures.append(Figure(name, ratio(plain, beside), "×", 0.6))
        finally:
            engine.stop()
    return figures


def book() -> list[Figure]:
    """A book in one request to a server in a process of its own, and by how much its memory grows at most."""
    text = random_prompt(BOOK)
    with served() as server, on_core(CLIENT_CORE):
        url = f"http://127.0.0.1:{server.port}/v1/score"
        httpx.post(url, json={"texts": text[:1000]}, timeout=LONGEST_WAIT).raise_for_status()
        before = server.resident_megabytes
        start = time.perf_counter()
        answer = httpx.post(url, json={"texts": text}, timeout=LONGEST_WAIT).raise_for_status().json()
        seconds = time.perf_counter() - start
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert answer["results"][0]["characters"] == BOOK
    grown = int(peak[1]) * 1024 / 1e6 - before if peak else float("nan")
    name = f"scoring a book of {BOOK:,} characters over HTTP"
    return [
        Figure(name, BOOK / seconds, "characters/s"),
        Figure(f"{name}, memory at its peak above before, of each character", grown * 1e6 / BOOK, "bytes"),
    ]


def body_of_lines() -> list[Figure]:
    """A body of lines over HTTP, by a server on one core, and the same by `unroll score` on that core, in turns."""
    lines = [random_prompt(1 + at * 37 % 80).replace("\n", " ") for at in range(LINES)]
    content = "".join(f"{json.dumps(line)}\n" for line in lines)
    checkpoint = load(BUNDLED)
    decoder, held_out = Decoder(checkpoint), HeldOutSurprise.of(checkpoint.training)

    def bulk() -> float:
        start = time.perf_counter()
        with on_core(SERVER_CORE), LineScorer(decoder, checkpoint.tokenizer, held_out, threads=1) as scorer:
            assert sum(1 for _ in scorer.score([lines[at::4] for at in range(4)])) == LINES
        return time.perf_counter() - start

    with served() as server, on_core(CLIENT_CORE):

        def http() -> float:
            url, kind = f"http://127.0.0.1:{server.port}/v1/score", {"content-type": "application/x-ndjson"}
            start = time.perf_counter()
            answer = httpx.post(url, content=content, headers=kind, timeout=LONGEST_WAIT).raise_for_status()
            assert answer.text.count("\n") == LINES
            return time.perf_counter() - start

        over_http, in_bulk = side_by_side([http, bulk], 3)
    name = f"{LINES:,} lines in one body over HTTP"
    return [
        Figure(name, sum(map(len, lines)) / median(over_http), "characters/s"),
        Figure(f"{name} against unroll score", ratio(in_bulk, over_http), "×"),
    ]


def measure() -> list[Figure]:
    """All of it."""
    return [*side_by_side_texts(), *remembered(), *book(), *body_of_lines()]
