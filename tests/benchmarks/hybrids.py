"""Ways to look back, after equal processor time: an LSTM, one with attention, and the LSTM with the online memory.

And what looking back is worth to the plain network on the text that it learnt and on new text, by how far it may look.
"""

import os
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model.config import NetworkConfig
from model.network import Network
from model.online_memory.memory import OnlineMemory
from model.online_memory.weights import HIGHEST, LOWEST, MemoryWeights
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids
from tests.benchmarks.figures import Figure
from training.allocator import keep_buffers
from training.comparison import language_run
from training.comparison.language_run import LanguageRun, Steps
from training.data.prepared_corpus import count_ids
from training.data.split import split
from training.evaluation.network_reader import network_distributions, network_reader
from training.evaluation.online_memory import Memories, fit_to, remembering
from training.evaluation.protocols import carried
from training.planning.machine import faster_precision
from training.planning.regularisation import Regularisation

CORPUS = Path(os.environ.get("BENCHMARK_HYBRIDS_CORPUS", "../shared/corpora/tinyshakespeare.txt"))
SECONDS = float(os.environ.get("BENCHMARK_HYBRIDS_SECONDS", "60"))
SEEDS = int(os.environ.get("BENCHMARK_HYBRIDS_SEEDS", "3"))
DROPOUT = float(os.environ.get("BENCHMARK_HYBRIDS_DROPOUT", "0"))  # before the output; a fourth of it on the embeddings
HIDDEN, EMBEDDING, WINDOW = 256, 64, 256
SCORED, LOOKED_AT = 1 << 16, 1 << 15  # ids of a part
STEP = 128  # ids that one memory is asked about; it has those of the reach before them
REACHES = (256, 1_024, None)  # ids; None is all of the part so far
LEARNT = 0.05  # how far weights move towards what one memory came to


def measure() -> list[Figure]:
    """Medians over the seeds; nothing where the corpus is missing. By name alone, as it takes minutes for each seed."""
    keep_buffers()
    torch.set_num_threads(1)
    if not CORPUS.is_file():
        return []
    text = CORPUS.read_text("utf-8")
    tokenizer = Tokenizer.learn([text])
    parts = split(tokenizer.encode(text))
    found: dict[tuple[str, str], list[float]] = {}
    looked: list[Figure] = []
    for seed in range(1, SEEDS + 1):
        for name, attention in (("LSTM", 0), (f"attention {WINDOW}", WINDOW)):
            network, steps = trained(tokenizer.size, attention, seed, parts.train)
            for key, nats in scores(network, parts, name).items():
                found.setdefault(key, []).append(nats)
            found.setdefault((name, "steps"), []).append(steps)
            if seed == 1 and not attention:
                looked = looking_back(
                    network, {"train": parts.train, "validation": parts.validation, "test": parts.test}
                )
    base = f"{CORPUS.name}, {SECONDS:g} s" + (f", dropout {DROPOUT:g}" if DROPOUT else "")
    figures = [
        Figure(f"{base}, {name}, {what}", median(values), "steps" if what == "steps" else spread(values))
        for (name, what), values in sorted(found.items())
    ]
    return [*figures, *looked]


def spread(values: list[float]) -> str:
    """The unit, with the lowest and the highest."""
    return f"nats ({min(values):.4f} to {max(values):.4f})"


def trained(vocabulary: int, attention: int, seed: int, train: Ids) -> tuple[Network, int]:
    """A network after so many seconds of this process's processor time, and its steps."""
    config = NetworkConfig(
        cell="lstm", layers=1, hidden=HIDDEN, embedding=EMBEDDING, vocabulary=vocabulary, attention=attention
    )
    precision = faster_precision(torch.device("cpu"))
    left_out = Regularisation(input_dropout=DROPOUT / 4, output_dropout=DROPOUT)
    run = LanguageRun(config, seed, precision, 1, 32, 64, SCORED, seconds=SECONDS, regularisation=left_out)
    steps = Steps(run, train, count_ids(train, vocabulary))
    clock: Any = language_run
    kept, clock.time = clock.time, SimpleNamespace(perf_counter=time.process_time)
    try:
        steps.run()
    finally:
        clock.time = kept
    return steps.learner.network, steps.step


def scores(network: Network, parts: Any, name: str) -> dict[tuple[str, str], float]:
    """Nats per character of the held-out parts, each in one sequence, alone and with the memory."""
    distribute = network_distributions(network, 1)
    weights = fit_to(distribute, parts.validation[:SCORED])
    assert weights is not None
    readers = {
        name: network_reader(network, threads=1),
        f"{name} and memory": remembering(distribute, Memories(weights)),
    }
    return {
        (reader, part): carried(read, ids[:SCORED], 1).nats_per_character
        for reader, read in readers.items()
        for part, ids in (("validation", parts.validation), ("test", parts.test))
    }


class Piece(NamedTuple):
    """Some ids, what followed them, and the network's distributions, as `OnlineMemory.score` takes them."""

    ids: NDArray[np.int32]
    following: NDArray[np.int32]
    weights: NDArray[np.float32]
    whole: NDArray[np.float64]


def looking_back(network: Network, parts: dict[str, Ids]) -> list[Figure]:
    """Nats that a memory of so many ids gains, by the part its weights are fitted on."""
    pieces = {name: read(network, ids[:LOOKED_AT]) for name, ids in parts.items()}
    alone = {name: sum(map(own_nats, each)) / characters(each) for name, each in pieces.items()}
    figures = []
    for reach in REACHES:
        for fitted_on in ("validation", "train"):
            weights, _ = remembered(pieces[fitted_on], reach, MemoryWeights(), LEARNT)
            for name, each in pieces.items():
                _, nats = remembered(each, reach, weights, 0.0)
                what = "all ids" if reach is None else f"{reach:,} ids"
                gained = alone[name] - nats / characters(each)
                figures.append(Figure(f"{what} back, weights of {fitted_on}: gained on {name}", gained, "nats"))
    return figures


def read(network: Network, ids: Ids) -> list[Piece]:
    """A part in one sequence, cut into pieces."""
    distribute, state, found = network_distributions(network, 1), None, []
    for at in range(0, len(ids) - 1, STEP):
        window = ids[at : at + STEP + 1].astype(np.int64)
        (weights, whole), state = distribute(window[None, :-1], window[None, 1:], state)
        found.append(Piece(window[:-1].astype(np.int32), window[1:].astype(np.int32), weights[0], whole[0]))
    return found


def own_nats(piece: Piece) -> float:
    """Of what followed, by the network alone."""
    right = piece.weights[np.arange(len(piece.ids)), piece.following]
    return -float(np.log(np.maximum(right, 1e-30) / piece.whole).sum())


def characters(pieces: list[Piece]) -> int:
    """How many ids the pieces predict."""
    return sum(len(piece.ids) for piece in pieces)


def remembered(
    pieces: list[Piece], reach: int | None, weights: MemoryWeights, learn: float
) -> tuple[MemoryWeights, float]:
    """The weights after all pieces, and the nats; each piece by a memory of the ids before it alone.

    learn: how far the weights move from piece to piece; with 0 they stay as they are but within a piece.
    """
    nats, whole = 0.0, OnlineMemory(weights)
    for at, piece in enumerate(pieces):
        memory = whole
        if reach is not None:
            memory = OnlineMemory(weights)
            for before in pieces[max(0, at - reach // STEP) : at]:
                memory.score(*before)
        nats -= float(memory.score(*piece)[0].sum(dtype=np.float64))
        moved = np.array(weights.values) + learn * (np.array(memory.weights) - np.array(weights.values))
        weights = MemoryWeights(tuple(np.clip(moved, LOWEST, HIGHEST).tolist()))
    return weights, nats
