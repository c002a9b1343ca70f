"""What a text costs by its length: recurrent cells, and a self-attention layer with and without a cache."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.config import NetworkConfig
from model.decoding.decoder import Decoder
from model.text.tokenizer import Tokenizer
from training.comparison.efficiency import untrained
from training.comparison.parts import Part
from training.comparison.sizes import Compared, attention_width
from training.row_threads import one_kernel_thread

LENGTHS = (100, 1_000, 10_000, 100_000, 1_000_000)
ATTENTION_LENGTHS = (100, 300, 1_000, 3_000, 10_000)
AGAIN, MOST_AGAIN = 1.0, 20  # seconds, and times, that a length is measured again
TIMED = 12  # lengths at which a step of attention without a cache is timed, up to the longest


class Attention(nn.Module):
    """One causal self-attention layer of one head (Vaswani et al. 2017) between an embedding and an output."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.query, self.key, self.value, self.joined = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.out = nn.Linear(width, vocabulary)

    def whole(self, ids: Tensor) -> Tensor:
        """The logits (V,) after ids (n,), everything computed anew."""
        x = self.embedding(ids)[None]
        read = F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), is_causal=True)
        logits: Tensor = self.out(self.joined(read)[0, -1])
        return logits

    def step(self, last: Tensor, keys: Tensor, values: Tensor, at: int) -> Tensor:
        """The logits (V,) after one id more (1,), with keys and values (n, width) of those before, kept up to `at`."""
        x = self.embedding(last)
        keys[at], values[at] = self.key(x)[0], self.value(x)[0]
        weights = (keys[: at + 1] @ self.query(x)[0] / math.sqrt(keys.shape[1])).softmax(0)
        logits: Tensor = self.out(self.joined(weights @ values[: at + 1]))
        return logits


def length_cost(
    networks: Mapping[Compared, NetworkConfig], tokenizer: Tokenizer, unseen: NDArray[np.int64], seconds: float
) -> Part:
    """Seconds of texts by their length, the fitted exponent, and what could not be measured in time, extrapolated.

    seconds: that each cell and each form of attention may take, in about.
    """
    times: dict[str, Any] = {}
    for cell, config in networks.items():
        decoder = Decoder(untrained(config, tokenizer, unseen))
        times[cell] = _curve(LENGTHS, lambda n, decoder=decoder: _read(decoder, n), seconds)  # type: ignore[misc]
    wanted = next(iter(networks.values()))
    width = attention_width(wanted.parameters(), wanted.vocabulary)
    torch.manual_seed(1)
    layer = Attention(wanted.vocabulary, width).eval()
    with torch.no_grad(), one_kernel_thread():
        times["attention, cache"] = _curve(ATTENTION_LENGTHS, lambda n: _cached(layer, n), seconds)
        times["attention, no cache"] = _curve(*_without_cache(layer, seconds), math.inf)
    parameters = sum(weight.numel() for weight in layer.parameters())
    return {"figures": {"attention": {"width": width, "parameters": parameters}}, "times": times}


def exponent(lengths: NDArray[np.float64], seconds: NDArray[np.float64]) -> float:
    """The slope of a line through the logarithms: 1 where the cost grows with the length, 2 with its square."""
    return float(np.polyfit(np.log(lengths), np.log(seconds), 1)[0])


def _curve(lengths: tuple[int, ...], cost: Callable[[int], float], seconds: float) -> dict[str, Any]:
    """The measured lengths while they take no longer than `seconds`, and those up to a million extrapolated."""
    measured: dict[int, float] = {}
    cost(lengths[0])
    for before, length in zip((None, *lengths), lengths, strict=False):
        grown = 0.0 if before is None else measured[before] * (length / before) ** 2
        if len(measured) >= 3 and grown > 4 * seconds:  # a line needs three points
            break
        measured[length] = _best_of(lambda length=length: cost(length), min(seconds / 8, AGAIN))  # type: ignore[misc]
    known = np.array(list(measured)), np.array(list(measured.values()))
    # Of short texts a call's own cost is a large share: the line is drawn through the longer ones.
    last = slice(-3, None)
    slope = exponent(known[0][last], known[1][last])
    longest = max(measured)
    guessed = {n: measured[longest] * (n / longest) ** slope for n in LENGTHS if n > longest}
    return {
        "seconds": {str(n): took for n, took in measured.items()},
        "extrapolated": {str(n): took for n, took in guessed.items()},
        "exponent": slope,
        "fitted_from": int(known[0][last][0]),
    }


def _best_of(cost: Callable[[], float], seconds: float) -> float:
    """The least of some measurements, a few where they are short: a busy moment makes one long."""
    ended, best = time.perf_counter() + seconds, cost()
    for _ in range(MOST_AGAIN):
        if time.perf_counter() >= ended:
            break
        best = min(best, cost())
    return best


def _read(decoder: Decoder, length: int) -> float:
    """Seconds to read a text with one row of the decoder."""
    rows, piece = decoder.rows(1), np.zeros((1, min(length, 10_000)), np.int32)
    begun = time.perf_counter()
    for _ in range(0, length, piece.shape[1]):
        rows.read([0], piece)
    return time.perf_counter() - begun


def _cached(layer: Attention, length: int) -> float:
    """Seconds to read a text character by character, keys and values kept."""
    width = layer.embedding.embedding_dim
    keys, values, last = torch.empty(length, width), torch.empty(length, width), torch.zeros(1, dtype=torch.int64)
    begun = time.perf_counter()
    for at in range(length):
        layer.step(last, keys, values, at)
    return time.perf_counter() - begun


def _without_cache(layer: Attention, seconds: float) -> tuple[tuple[int, ...], Callable[[int], float]]:
    """Lengths, and seconds to read texts of them character by character, everything computed anew at each.

    They are summed from steps timed at some lengths, as all steps of ten thousand characters would take too long.
    """
    at: list[float] = []
    took: list[float] = []
    begun = time.perf_counter()
    for length in np.unique(np.geomspace(10, ATTENTION_LENGTHS[-1], TIMED).astype(int)):
        ids = torch.zeros(int(length), dtype=torch.int64)
        layer.whole(ids)
        at.append(float(length))
        took.append(min(_timed(layer, ids) for _ in range(2)))
        if time.perf_counter() - begun > seconds and length >= ATTENTION_LENGTHS[2]:
            break

    def cost(length: int) -> float:
        steps = np.log(np.arange(1, length + 1))
        return float(np.exp(np.interp(steps, np.log(at), np.log(took))).sum())

    return tuple(length for length in ATTENTION_LENGTHS if length <= at[-1]), cost


def _timed(layer: Attention, ids: Tensor) -> float:
    begun = time.perf_counter()
    layer.whole(ids)
    return time.perf_counter() - begun
