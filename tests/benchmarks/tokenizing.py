"""Encoding a large text: ours against the library, seconds and memory."""

import tracemalloc

import numpy as np
import tokenizers

from model.text.tokenizer import Tokenizer
from tests.benchmarks.figures import Figure
from tests.benchmarks.timing import seconds_per_call

CHARACTERS = 4_000_000


def measure() -> list[Figure]:
    """English-like text with accents, and Chinese-like text with rare characters in bytes."""
    random = np.random.default_rng(0)
    english = "".join(random.choice(list("etaoin shrdlué\n"), CHARACTERS))
    chinese = "".join(map(chr, (0x4E00 + random.zipf(1.3, CHARACTERS) % 9000).tolist()))
    figures = []
    for name, text, min_count in (("latin", english, 1), ("chinese, rare characters in bytes", chinese, 20)):
        ours = Tokenizer.learn([text], min_count)
        library = tokenizers.Tokenizer.from_str(ours.to_json())
        megabytes = len(text.encode()) / 1e6
        seconds = seconds_per_call(lambda ours=ours, text=text: ours.encode(text), 1, 5)  # type: ignore[misc]
        piece = text[: CHARACTERS // 20]
        theirs = seconds_per_call(lambda library=library, piece=piece: library.encode(piece), 1, 3) * 20  # type: ignore[misc]
        tracemalloc.start()
        ours.encode(text)
        memory = tracemalloc.get_traced_memory()[1] / len(text)
        tracemalloc.stop()
        figures += [
            Figure(f"encode {name}", megabytes / seconds, "MB/s", 20),
            Figure(f"encode {name}, against the library", theirs / seconds, "×", 1),
            Figure(f"encode {name}, peak memory", memory, "bytes per character", 8, "most"),
        ]
    return figures
