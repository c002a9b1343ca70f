"""Lists generated and lines scored in bulk, against an engine of as many threads, and the memory a large file takes."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from model.bulk.drawing import ItemRequest
from model.bulk.generate import drawn_items
from model.bulk.score import LineScorer
from model.checkpoint import BUNDLED, Checkpoint, load, save
from model.decoding.decoder import Decoder
from model.held_out_surprise import HeldOutSurprise
from model.sampling.parameters import SamplingParameters
from tests.benchmarks.engine import EngineAlone, engine_alone, random_prompt
from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import ratio, side_by_side
from tests.model.small import small_checkpoint

ROUNDS = 3
ITEMS, LINES, LONGEST = 1500, 3000, 80
SIZES = tuple(int(size) for size in os.environ.get("BENCHMARK_SCORED_BYTES", "2000000,20000000").split(","))
PAUSE = 0.3  # seconds between two lines of a log that goes on


def generating(checkpoint: Checkpoint, alone: EngineAlone, threads: int) -> Iterator[Figure]:
    """Items that end at a line break, as `--count` draws them, and whole texts of an engine with as many threads."""
    decoder = Decoder(checkpoint)

    def ours() -> float:
        request = ItemRequest(prompt="", parameters=SamplingParameters(seed=1), max_tokens=500, stop=["\n"])
        start = time.perf_counter()
        with drawn_items(decoder, checkpoint.tokenizer, request, end=ITEMS, threads=threads) as items:
            drawn = sum(item.tokens for item in items)
        return (time.perf_counter() - start) / drawn

    bulk, engine = side_by_side([ours, per_character(alone)], ROUNDS)
    name = f"items in bulk, {threads} thread{'s' * (threads > 1)}"
    yield Figure(name, 1 / median(bulk), "characters/s")
    yield Figure(f"{name}, against the engine", ratio(engine, bulk), "×", 0.8)


def per_character(alone: EngineAlone) -> Callable[[], float]:
    """Seconds a character of 128 texts at once, as many as an engine holds."""
    rows, characters = 128, 500
    return lambda: alone.write(rows, characters) / (rows * characters)


def scoring(checkpoint: Checkpoint, alone: EngineAlone, threads: int) -> Iterator[Figure]:
    """Lines of up to 80 characters, and whole texts of an engine with as many threads."""
    decoder, held_out = Decoder(checkpoint), HeldOutSurprise.of(checkpoint.training)
    lines = [random_prompt(1 + at * 37 % LONGEST).replace("\n", " ") for at in range(LINES)]
    blocks = [lines[at::4] for at in range(4)]
    characters = sum(map(len, lines))

    def ours() -> float:
        with LineScorer(decoder, checkpoint.tokenizer, held_out, threads=threads) as scorer:
            start = time.perf_counter()
            assert sum(1 for _ in scorer.score(blocks)) == LINES
            return (time.perf_counter() - start) / characters

    bulk, engine = side_by_side([ours, per_character(alone)], ROUNDS)
    name = f"lines scored in bulk, {threads} thread{'s' * (threads > 1)}"
    yield Figure(name, 1 / median(bulk), "characters/s")
    yield Figure(f"{name}, against the engine's generating", ratio(engine, bulk), "×", 0.7)


def memory() -> Iterator[Figure]:
    """The largest resident memory of `unroll score` on a small and on a large file, of a model that reads fast."""
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        model, path = Path(folder) / "model", Path(folder) / "lines"
        save(small_checkpoint(layers=1, hidden=16), model)
        lines = "".join(f"{random_prompt(1 + at % 117)}\n" for at in range(1000)).encode()
        for size in SIZES:
            with path.open("wb") as file:
                for _ in range(-(-size // len(lines))):
                    file.write(lines)
            peaks.append(_peak(["score", str(model), str(path), "--top", "5"]))
    yield Figure(f"memory of scoring {SIZES[0] / 1e6:g} MB of lines", peaks[0], "MB")
    name = f"the same of {SIZES[-1] / 1e6:g} MB against it"
    yield Figure(name, peaks[-1] / peaks[0], "×", 1.05, "most")


def _peak(arguments: list[str]) -> float:
    """Of the program as a process of its own; Linux alone knows it apart from that of the process that started it."""
    code = (
        "import sys, unroll\n"
        "try:\n    unroll.main()\n"
        "except SystemExit:\n    pass\n"
        "sys.stderr.write(open('/proc/self/status').read())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    peak = re.search(r"VmHWM:\s+(\d+) kB", done.stderr)
    assert peak is not None
    return int(peak[1]) * 1024 / 1e6


def lone_lines() -> Iterator[Figure]:
    """A line written into a pipe, until its score comes out."""
    command = [sys.executable, "-m", "unroll", "score", "-"]
    seconds = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(12):
            time.sleep(PAUSE)
            start = time.perf_counter()
            process.stdin.write(random_prompt(100).replace("\n", " ").encode() + b"\n")
            process.stdin.flush()
            process.stdout.readline()
            seconds.append(time.perf_counter() - start)
        process.stdin.close()
    yield Figure("a line of a log that goes on, until its score, worst of 10", 1e3 * max(seconds[2:]), "ms", 50, "most")


def measure() -> list[Figure]:
    """All of it, on one core's thread and on two."""
    checkpoint = load(BUNDLED)
    figures: list[Figure] = []
    with engine_alone(checkpoint) as alone:
        figures += [*generating(checkpoint, alone, 1), *scoring(checkpoint, alone, 1)]
    with engine_alone(checkpoint, 2) as alone:
        figures += [*generating(checkpoint, alone, 2), *scoring(checkpoint, alone, 2)]
    return [*figures, *lone_lines(), *memory()]
