"""Preparing a corpus: how fast against reading it and its SHA-256, and a small one's memory against a large one's."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import SERVER_CORE, on_core
from training.data.batches import Batches
from training.data.corpus import BLOCK, Corpus
from training.data.prepared_corpus import count_ids, prepare
from training.data.sources import FileSource
from training.data.split import split

SMALL, LARGE = 20_000_000, int(os.environ.get("BENCHMARK_PREPARED_BYTES", "2000000000"))
ROOM = 3.2  # bytes on the disk for each of the large text: itself, two of an id, the small files
BATCH_SIZE, SEQUENCE_LENGTH = 32, 64  # as a run on two cores reads
POLLED = 0.002  # seconds between two looks at a process's memory
GROWTH = (
    16  # MB by which a hundred times the corpus may raise the peak: the allocator's mood, and batches farther apart
)


def english(random: np.random.Generator, size: int) -> bytes:
    """English-like text of so many bytes: words of random letters, frequent ones short, in lines of ten."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxzé"))
    words = ["".join(random.choice(letters, 1 + min(9, int(np.log2(rank + 1))))) for rank in range(1, 5000)]
    chosen = np.array(words)[np.minimum(random.zipf(1.2, size // 4), len(words)) - 1].tolist()
    lines = (" ".join(chosen[at : at + 10]).capitalize() for at in range(0, len(chosen), 10))
    return ".\n".join(lines).encode()[:size].decode(errors="ignore").encode()


def chinese(random: np.random.Generator, size: int) -> bytes:
    """Chinese-like text of so many bytes, frequent characters and rare ones."""
    return "".join(map(chr, (0x4E00 + random.zipf(1.3, size // 3) % 9000).tolist())).encode()


def write_texts(folder: Path) -> dict[str, Path]:
    """The texts by name: a large one that repeats the small one, a Chinese one, and another English one packed."""
    random = np.random.default_rng(0)
    texts = {name: folder / name for name in ("large.txt", "small.txt", "chinese.txt", "packed.gz")}
    piece = english(random, SMALL)
    texts["small.txt"].write_bytes(piece)
    with texts["large.txt"].open("wb") as file:
        for at in range(0, LARGE, len(piece)):
            file.write(piece[: LARGE - at].decode(errors="ignore").encode())  # no half character at the end
    texts["chinese.txt"].write_bytes(chinese(random, SMALL))
    texts["packed.gz"].write_bytes(gzip.compress(english(random, SMALL), 6))
    return texts


def read_and_sum(path: Path) -> None:
    """The least that preparing could do: read the bytes, and their SHA-256."""
    total = hashlib.sha256()
    with FileSource(path).open() as file:
        while raw := file.read(BLOCK):
            total.update(raw)


def read_as_training(path: Path, kept: Path) -> None:
    """What a run reads of a prepared corpus: the counts of its train part, and a pass over it in batches."""
    prepared = prepare(Corpus([FileSource(path)]), kept)
    train = split(prepared.ids).train
    count_ids(train, prepared.tokenizer.size)
    batches = Batches(train, BATCH_SIZE, SEQUENCE_LENGTH, seed=1)
    for _ in range(batches.ids_per_pass // (BATCH_SIZE * SEQUENCE_LENGTH)):
        batches.next()


def timed(run: Callable[[], object]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def work(what: str, path: Path, kept: Path) -> list[float]:
    """In a process of its own: the seconds of the parts of that work."""
    if what == "train":
        return [timed(lambda: read_as_training(path, kept))]
    corpus = Corpus([FileSource(path)])
    read_and_sum(path)  # the system's cache holds the text for all that follows, as far as it can
    parts = [lambda: read_and_sum(path), lambda: prepare(corpus, kept), lambda: prepare(corpus, kept)]
    return [timed(part) for part in parts]


def memory_of(process: subprocess.Popen[str]) -> dict[str, int]:
    """The most that was resident until the process ended, in kB: VmHWM in all, RssAnon and RssFile as often looked at.

    VmHWM is the system's own account. The two others' peaks need not come at the same time.
    """
    most = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
    while process.poll() is None:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in most:
                most[name] = max(most[name], int(value.split()[0]))
        time.sleep(POLLED)
    return most


def measured(what: str, path: Path, kept: Path) -> tuple[list[float], dict[str, float]]:
    """Seconds of the parts of some work, and the peak memory of its process in MB."""
    command = [sys.executable, "-m", "tests.benchmarks.preparing", what, str(path), str(kept)]
    with on_core(SERVER_CORE):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    most = memory_of(process)
    said = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return json.loads(said), {name: peak / 1000 for name, peak in most.items()}


def size_of(count: int) -> str:
    """ "20 MB"."""
    return f"{count / 1e6:,.0f} MB"


def memory_figures(what: str, small: dict[str, float], large: dict[str, float]) -> list[Figure]:
    """Anonymous and file-backed peaks of both sizes, and how much more the larger one took in all."""
    figures = [
        Figure(f"{what} {size_of(size)}, peak {kind} memory", memory[name], "MB")
        for size, memory in ((SMALL, small), (LARGE, large))
        for kind, name in (("anonymous", "RssAnon"), ("file-backed", "RssFile"))
    ]
    grown = large["VmHWM"] - small["VmHWM"]
    return [*figures, Figure(f"{what}, peak in all, {size_of(LARGE)} against {size_of(SMALL)}", grown, "MB more",
                             GROWTH, "most")]  # fmt: skip


def speed_figures(texts: dict[str, Path], kept: Path) -> tuple[list[Figure], dict[str, float], dict[str, float]]:
    """How fast each text is prepared; and the memory of the small and of the large one."""
    figures, memory = [], {}
    for name, path in texts.items():
        (reading, preparing, again), memory[name] = measured("prepare", path, kept)
        megabytes = (LARGE if name == "large.txt" else SMALL) / 1e6  # unpacked, as UTF-8
        what = f"prepare {name.partition('.')[0]} text, {megabytes:,.0f} MB"
        figures += [
            Figure(what, megabytes / preparing, "MB/s", 20),
            Figure("the same against reading it and its SHA-256", preparing / reading, "× the time"),
            Figure("the same when its content was prepared before", megabytes / again, "MB/s"),
        ]
    return figures, memory["small.txt"], memory["large.txt"]


def measure() -> list[Figure]:
    """On one core, in a temporary folder; BENCHMARK_PREPARED_BYTES says how large the large text is, 2 GB."""
    folder = Path(tempfile.gettempdir())
    if (free := shutil.disk_usage(folder).free) < ROOM * LARGE:
        Console(stderr=True).print(
            f"Preparing is not measured: it needs {size_of(int(ROOM * LARGE))} in {folder}, where {size_of(free)} are "
            "free; make room, name another folder in TMPDIR, or a smaller text in BENCHMARK_PREPARED_BYTES."
        )
        return []
    with tempfile.TemporaryDirectory() as name:
        texts, kept = write_texts(Path(name)), Path(name) / "kept"
        figures, *preparing = speed_figures(texts, kept)
        training = [measured("train", texts[text], kept)[1] for text in ("small.txt", "large.txt")]
        return [*figures, *memory_figures("prepare", *preparing), *memory_figures("read in training", *training)]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(work(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
