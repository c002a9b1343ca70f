"""How fast this machine learns: seconds a character takes, of networks of any size, from steps of two."""

import math
import time
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from model.cells.spec import Cell
from model.config import NetworkConfig, products
from model.network import Network, layer_state
from training.lstm_window import read_to_learn
from training.planning.train_options import Precision
from training.row_threads import row_parts, side_by_side

# A fixed part of more than this share of the large network's time is noise: larger ones would seem to cost nothing.
MOST_FIXED = 0.5


@dataclass(frozen=True)
class Pace:
    """Seconds that a character takes: a part that networks of all sizes have, and one for each weight that it uses.

    The faster the products are, the more of a small network's step is not products.
    """

    fixed: float
    a_weight: float

    @classmethod
    def of_two(cls, small: tuple[int, float], large: tuple[int, float]) -> "Pace":
        """The pace of which a small and a large network are: their weights, and seconds that a character took each."""
        (few, short), (many, long) = small, large
        fixed = min(max((short * many - long * few) / (many - few), 0.0), MOST_FIXED * long)
        return cls(fixed, (long - fixed) / many)

    def characters_per_second(self, network: NetworkConfig, processes: int = 1) -> float:
        """What a network reads. processes: that share its batches."""
        return processes / (self.fixed + self.a_weight * products(network))


def measure_pace(
    cell: Cell, vocabulary: int, precision: Precision, device: torch.device, threads: int = 1, rows: int = 32
) -> Pace:
    """The pace of training steps: forward, backward, no optimiser. It leaves PyTorch's random state as it was.

    Quick and rough: the best of a few steps, whose rows `threads` share. On a GPU, where small networks take as long as
    large ones, of one network alone.
    """
    found = []
    for hidden, embedding, steps in ((128, 32, 16), (512, 128, 4)):
        network = NetworkConfig(cell=cell, layers=1, hidden=hidden, embedding=embedding, vocabulary=vocabulary)
        found.append((products(network), _seconds(network, precision, device, threads, rows, steps)))
    small, large = found
    return Pace(0.0, large[1] / large[0]) if device.type == "cuda" else Pace.of_two(small, large)


def _seconds(
    config: NetworkConfig, precision: Precision, device: torch.device, threads: int, rows: int, steps: int
) -> float:
    """Seconds a character takes in the best of some steps."""
    with torch.random.fork_rng(devices=[]):
        network = Network(config).to(device)
        ids = torch.randint(config.vocabulary, (rows, 64), device=device)
        parts = row_parts(len(ids), threads)
        works = [partial(_learn, deepcopy(network), ids[part], precision) for part in parts]
        best = math.inf
        for _ in range(steps):
            start = time.perf_counter()
            if device.type == "cuda":
                works[0]()
                torch.cuda.synchronize()
            else:
                side_by_side(works)
            best = min(best, time.perf_counter() - start)
    return best / ids.numel()


def _learn(network: Network, ids: Tensor, precision: Precision) -> None:
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        config, state, x = network.config, network.initial_state(len(ids)), network.embedding(ids.t())
        for number in range(config.layers):
            x, _ = read_to_learn(config, x, network.layer_weights(number), layer_state(config, state, number))
        logits = network.out(x)
    F.cross_entropy(logits.float().flatten(0, 1), ids.t().flatten()).backward()  # type: ignore[no-untyped-call]
