"""What attention costs: steps of training and of serving of a network with it against one without, side by side."""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch

from model.checkpoint import Checkpoint
from model.config import NetworkConfig
from model.decoding.decoder import Decoder
from model.network import Network, to_tensors
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from model.text.tokenizer import Tokenizer
from tests.benchmarks.figures import Figure, counted
from tests.benchmarks.timing import ratio, side_by_side
from training.allocator import keep_buffers
from training.data.batches import Batches
from training.loop.learner import Learner
from training.planning.config import TrainingConfig
from training.planning.machine import faster_precision

WINDOW = 256
SIZES = ((1, 256), (2, 384), (2, 512))  # layers and hidden width
ROWS, LENGTH = 32, 64
ROUNDS, CALLS = 7, 2
CHARACTERS = "".join(map(chr, range(0x20, 0x20 + 70)))


def measure() -> list[Figure]:
    """Of one thread; its own processor time counts, so that other programs matter less."""
    keep_buffers()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [figure for size in SIZES for figure in (*training(*size), *serving(*size))]
    finally:
        torch.set_num_threads(threads)


def config(layers: int, hidden: int, attention: int) -> NetworkConfig:
    """A network as a plan makes it."""
    size = Tokenizer(CHARACTERS).size
    return NetworkConfig(
        layers=layers, hidden=hidden, embedding=64, vocabulary=size, skip=layers > 1, attention=attention
    )


def training(layers: int, hidden: int) -> list[Figure]:
    """Whole steps, the optimiser's part included."""
    cpu = torch.device("cpu")
    ids = np.random.default_rng(1).integers(256, 326, 100_000)
    steps = []
    for attention in (0, WINDOW):
        network = config(layers, hidden, attention)
        plan = TrainingConfig(
            network=network, batch_size=ROWS, sequence_length=LENGTH, precision=faster_precision(cpu), epochs=1
        )
        steps.append(partial(one_step, Learner(plan, cpu), Batches(ids, ROWS, LENGTH, 1)))
    plain, pointing = side_by_side([partial(seconds, step) for step in steps], ROUNDS)
    name = f"training {layers} × {hidden}"
    return [
        Figure(name, ROWS * LENGTH / median(plain), "characters/s"),
        Figure(f"{name}, attention {WINDOW} against without", ratio(plain, pointing), "× speed", 0.9),
    ]


def one_step(learner: Learner, batches: Batches) -> None:
    """Learn from the next window."""
    learner.learn(batches.next(), 1e-3)


def serving(layers: int, hidden: int) -> list[Figure]:
    """Draws of int8 decoders, with windows that are full."""
    figures = []
    for rows in (1, 32):
        draws = [partial(drawer(config(layers, hidden, attention), rows), 16) for attention in (0, WINDOW)]
        plain, pointing = side_by_side([partial(seconds, draw) for draw in draws], ROUNDS)
        name = f"serving {layers} × {hidden}, {counted(rows, 'row')}"
        figures += [
            Figure(name, rows * 16 / median(plain), "characters/s"),
            Figure(f"{name}, attention {WINDOW} against without", ratio(plain, pointing), "× speed", 0.85),
        ]
    return figures


def drawer(network: NetworkConfig, rows: int) -> Callable[[int], object]:
    """Draws so many ids for each of some rows that have read a text."""
    torch.manual_seed(1)
    decoder = Decoder(
        Checkpoint(
            config=network,
            tokenizer=Tokenizer(CHARACTERS),
            tensors=to_tensors(Network(network)),
            unseen=np.arange(256),
        )
    )
    slots = decoder.rows(rows)
    prompt = np.random.default_rng(2).integers(256, network.vocabulary, (rows, WINDOW + 8)).astype(np.int32)
    slots.read(range(rows), prompt)
    for slot in range(rows):
        slots.set(slot, RowSampling(SamplingParameters(seed=slot), decoder.ids, prompt[slot]), int(prompt[slot, -1]))
    return partial(slots.draw, range(rows))


def seconds(run: Callable[[], object]) -> float:
    """This thread's processor seconds of a call."""
    start = time.thread_time()
    for _ in range(CALLS):
        run()
    return (time.thread_time() - start) / CALLS
