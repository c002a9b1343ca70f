"""How far back a network's past reaches: its loss by length of context, and how fast gradient and state fade."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.network import Network
from model.text.utf8_ids import Ids
from training.comparison.parts import Part
from training.evaluation.network_reader import read_rows
from training.row_threads import one_kernel_thread

CONTEXTS = tuple(2**power for power in range(11))  # 1, 2, 4 … 1,024 characters
ROWS = 32  # places that are read side by side
REACH, WINDOWS = 256, 64  # characters back, and stretches of text that fading is a mean over
PLACES_SEED = 7


def use_of_past(network: Network, ids: Ids, threads: int, places: int) -> Part:
    """All figures of it, on a held-out part (n,). places: at which the loss by length of context is measured."""
    contexts = [length for length in CONTEXTS if length + 2 <= len(ids)]
    reach = min(REACH, (len(ids) - 2) // 2)
    figures: dict[str, Any] = {
        "context": {str(c): b for c, b in context_bits(network, ids, contexts, threads, places).items()}
    }
    if reach >= 1:
        windows = _windows(ids, 2 * reach + 1, WINDOWS)
        gradient, state = fading_gradient(network, windows[:, -reach - 2 :]), fading_state(network, windows, reach)
        figures["fading"] = {"gradient": _at_powers(gradient), "state": _at_powers(state)}
        figures["half_life"] = {"gradient": half_life(gradient), "state": half_life(state), "reach": reach}
    return {"figures": figures, "times": {}}


def context_bits(network: Network, ids: Ids, contexts: Sequence[int], threads: int, places: int) -> dict[int, float]:
    """Bits of the same random ids of a text, each predicted from so many before it and a zero state."""
    ends = _places(len(ids) - max(contexts), places) + max(contexts)
    found = {}
    for length in contexts:
        nats = 0.0
        for at in range(0, len(ends), ROWS):
            window_places = ends[at : at + ROWS, None] + np.arange(-length, 1)
            window = ids[window_places].astype(np.int64)
            losses, _ = read_rows(network, (window[:, :-1], window[:, 1:]), None, _last_nats, threads=threads)
            nats += sum(losses)
        found[length] = nats / len(ends) / math.log(2)
    return found


def _last_nats(logits: Tensor, targets: Tensor) -> float:
    return float(F.cross_entropy(logits[:, -1].float(), targets[:, -1], reduction="sum"))


def fading_gradient(network: Network, windows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The norm of the gradient of a loss with respect to what was read k characters before, of that one before.

    windows: (B, T + 2). Returns (T,): for k = 1 … T, a mean over the windows, the first 1.
    """
    inputs, targets = torch.from_numpy(windows[:, :-1]), torch.from_numpy(windows[:, -1])
    with one_kernel_thread():
        embedded = network.embedding(inputs.t()).detach().requires_grad_()
        logits, _, _ = network.read(embedded, inputs, None)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits[:, -1], targets, reduction="sum"), embedded)
    norms = gradient.norm(dim=-1).mean(1).flip(0)[1:].double().numpy()
    return _relative(norms)


def fading_state(network: Network, windows: NDArray[np.int64], reach: int) -> NDArray[np.float64]:
    """How far a state still changes what is predicted k characters later, of how far it does after one.

    Two copies read the same `reach` characters, one from the state after those before them, one from zeros: the total
    variation distance of what they predict. windows: (B, 2 · reach + 1). Returns (reach,), the first 1.
    """
    before, after = (torch.from_numpy(one) for one in (windows[:, :reach], windows[:, reach : 2 * reach]))
    with torch.no_grad(), one_kernel_thread():
        _, state = network(before)
        known, blind = (network(after, one)[0].softmax(-1) for one in (state, None))
        distance = (known - blind).abs().sum(-1).mean(0) / 2
    return _relative(distance.double().numpy())


def half_life(fading: NDArray[np.float64]) -> float | None:
    """The number of characters after which no more than half is left, of values (T,) at 1 … T; None if more is."""
    below = np.flatnonzero(fading <= 0.5)
    if not len(below):
        return None
    at = int(below[0])  # never 0, where the value is 1
    return float(at + (fading[at - 1] - 0.5) / (fading[at - 1] - fading[at]))


def _relative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values / values[0] if values[0] > 0 else np.full_like(values, math.nan)


def _at_powers(values: NDArray[np.float64]) -> dict[str, float]:
    return {str(2**power): float(values[2**power - 1]) for power in range(len(values).bit_length())}


def _places(free: int, most: int) -> NDArray[np.int64]:
    """Random places below `free`, ascending: the same for every network."""
    return np.sort(np.random.default_rng(PLACES_SEED).integers(max(1, free), size=most))


def _windows(ids: Ids, width: int, most: int) -> NDArray[np.int64]:
    starts = _places(len(ids) - width + 1, most)
    windows: NDArray[np.int64] = ids[starts[:, None] + np.arange(width)].astype(np.int64)
    return windows
