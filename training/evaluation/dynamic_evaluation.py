"""Dynamic evaluation: a copy of the network goes on learning from the text, each stretch once it was predicted.

Krause, Kahembwe, Murray & Renals 2018, "Dynamic evaluation of neural sequence models" (arXiv 1709.07432), with the
gradient scaled by its root mean square over the train part and the decay towards the trained weights scaled alike:

    θ ← θ − η g / (RMS + ε) + λ (θ₀ − θ) ⊙ RMS / mean(RMS)

with g the gradient of a segment's mean cross-entropy, taken after the segment was scored, θ₀ the trained weights, η the
rate and λ the decay. The figure is a code length like any other: no prediction depends on what it predicts.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.network import Network, detach
from model.online_memory.weights import MemoryWeights
from model.text.utf8_ids import Ids
from training.evaluation.network_reader import of_logits
from training.evaluation.online_memory import Distributions, Memories, remembering
from training.evaluation.protocols import carried
from training.evaluation.readers import Reader
from training.evaluation.score import Score
from training.row_threads import available_cores, side_by_side

SEGMENT = 50  # ids between two updates; 20 gave the same figure on Shakespeare (1.216 nats) in 1.7 times the time
SHORTEST_SEQUENCE = 1 << 16  # ids
PLACES = 16  # spread evenly over the train part, where gradients are collected
SEGMENTS = 16  # read at each of them, the state carried
RATES = (2e-4, 5e-4, 1e-3, 2e-3)
DECAYS = (3e-3, 1e-2, 3e-2)
CHOSEN_ON = 1 << 13  # ids of each sequence of the validation part that rate and decay are chosen on
EPSILON = 0.1  # of the mean RMS, added to each: an id the statistics never met has none, and must not leap when met


@dataclass(frozen=True)
class Adaptation:
    """How fast the copy learns.

    rate: η, how far a weight moves in a segment whose gradient is as large as usual. decay: λ, the share of the way
    back to the trained weights that a weight of mean RMS goes after each segment. segment: ids between two updates.
    """

    rate: float
    decay: float
    segment: int = SEGMENT


def root_mean_squares(
    network: Network, ids: Ids, batch_size: int = 1, segment: int = SEGMENT, threads: int | None = None
) -> list[Tensor]:
    """The root mean square of the gradient of a segment's loss, for each weight: (shape of each parameter).

    ids: the train part. batch_size: as the text will be read, because a mean over more ids has a smaller gradient.
    threads: that read places side by side; None takes the cores there are.
    """
    network = _copy(network)
    weights = list(network.parameters())
    squares = [torch.zeros_like(weight) for weight in weights]
    run = batch_size * SEGMENTS * segment + 1
    starts = np.linspace(0, max(0, len(ids) - run), PLACES).astype(int)
    seen, together = 0, threads or available_cores()
    for first in range(0, PLACES, together):
        works = [
            partial(_squares, network, ids[at : at + run], batch_size, segment) for at in starts[first:][:together]
        ]
        for segments, found in side_by_side(works):
            seen += segments
            torch._foreach_add_(squares, found)
    return [(square / seen).sqrt() for square in squares]


def _squares(network: Network, ids: Ids, batch_size: int, segment: int) -> tuple[int, list[Tensor]]:
    """How many segments a text has, and the sums of the squares of their gradients, for each weight."""
    weights = list(network.parameters())
    squares = [torch.zeros_like(weight) for weight in weights]
    seen = 0

    def collect(loss: Tensor) -> None:
        nonlocal seen
        seen += 1
        for square, gradient in zip(squares, torch.autograd.grad(loss, weights), strict=True):
            square.addcmul_(gradient, gradient)

    carried(_reader(network, collect), ids, batch_size, segment)
    return seen, squares


def adapting_reader(
    network: Network, usual: list[Tensor], how: Adaptation, memory: MemoryWeights | None = None
) -> Reader:
    """Read with a copy of the network that learns from every window after it was scored.

    usual: `root_mean_squares`. The network given is not changed; each reader begins with its weights. memory: also with
    the online memory, which has these weights; the network learns from its own loss all the same.
    """
    network = _copy(network)
    weights = list(network.parameters())
    trained = [weight.detach().clone() for weight in weights]
    mean = torch.stack([rms.mean() for rms in usual]).mean()
    steps = [how.rate / (rms + EPSILON * mean) for rms in usual]
    pulls = [(how.decay * rms / mean).clamp(max=1.0) for rms in usual]  # beyond 1 it would overshoot

    def learn(loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, origin, pull, step, gradient in zip(weights, trained, pulls, steps, gradients, strict=True):
                weight.lerp_(origin, pull).addcmul_(step, gradient, value=-1)

    return _reader(network, learn) if memory is None else _remembering(network, learn, memory)


def _remembering(network: Network, learn: Callable[[Tensor], None], memory: MemoryWeights) -> Reader:
    """The same reader as without, whose nats are those of the memory."""
    found: list[Distributions] = []
    read = _reader(network, learn, lambda logits: found.append(of_logits(logits)))

    def distribute(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[Distributions, Any]:
        _, state = read(inputs, targets, state)
        return found.pop(), state

    return remembering(distribute, Memories(memory))


def _reader(network: Network, learn: Callable[[Tensor], None], look: Callable[[Tensor], None] | None = None) -> Reader:
    """Read in fp32 with gradients; `learn` gets the mean loss of each window once it is counted, `look` the logits."""
    device = network.out.weight.device

    def read(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        logits, state = network(torch.from_numpy(inputs).to(device), state)
        if look is not None:
            look(logits)
        goal = torch.from_numpy(np.ascontiguousarray(targets)).to(device)
        loss = F.cross_entropy(logits.float().flatten(0, 1), goal.flatten())
        learn(loss)
        return loss.item() * targets.size, detach(state)

    return read


def _copy(network: Network) -> Network:
    return deepcopy(network).eval().requires_grad_()


def dynamic(
    network: Network,
    train: Ids,
    parts: Mapping[str, Ids],
    chosen_on: str,
    batch_size: int | None = None,
    threads: int | None = None,
    memory: MemoryWeights | None = None,
) -> tuple[Adaptation, dict[str, Score]]:
    """Dynamic evaluation of each part, every one begun with the trained weights and a zero state.

    train: where the usual size of gradients is collected. chosen_on: the name of the part, validation, on whose
    beginning rate and decay are chosen; no other part has a say. batch_size: None is one for every 65,536 ids of the
    longest part, so that the time hardly depends on the corpus; all of them teach one copy. threads: that read at the
    same time at most; None takes the cores there are. memory: see `adapting_reader`. Returns what was chosen and the
    scores. The network is not changed.
    """
    threads = threads or available_cores()
    batch_size = batch_size or max(1, max(map(len, parts.values())) // SHORTEST_SEQUENCE)
    usual = root_mean_squares(network, train, batch_size, threads=threads)
    how = choose(network, usual, parts[chosen_on], batch_size, threads, memory)
    works = [
        partial(carried, adapting_reader(network, usual, how, memory), part, batch_size, how.segment)
        for part in parts.values()
    ]
    scores = {}
    for name, score in zip(parts, side_by_side(works, threads), strict=True):
        tried = min(batch_size * CHOSEN_ON, len(parts[chosen_on]))
        which = (
            f"dynamic evaluation, {how.segment} ids a segment, rate {how.rate:g} and decay {how.decay:g} "
            f"chosen on the first {tried:,} ids of {chosen_on}"
        )
        scores[name] = replace(score, protocol=f"{which}; {score.protocol}")
    return how, scores


def choose(
    network: Network,
    usual: list[Tensor],
    validation: Ids,
    batch_size: int,
    threads: int | None = None,
    memory: MemoryWeights | None = None,
) -> Adaptation:
    """The best rate at the middle decay, then the best decay at that rate, on the first 8,192 ids of each sequence."""
    piece = validation[: batch_size * CHOSEN_ON + 1]

    def nats(how: Adaptation) -> float:
        return carried(adapting_reader(network, usual, how, memory), piece, batch_size, how.segment).nats

    def tried(every: list[Adaptation]) -> dict[Adaptation, float]:
        return dict(zip(every, side_by_side([partial(nats, how) for how in every], threads), strict=True))

    found = tried([Adaptation(rate, DECAYS[len(DECAYS) // 2]) for rate in RATES])
    best = min(found, key=found.__getitem__)
    found |= tried([how for decay in DECAYS if (how := replace(best, decay=decay)) not in found])
    return min(found, key=found.__getitem__)
