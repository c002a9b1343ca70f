"""Bits and nats per character on held-out text, by protocols with names."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model.decoder import Decoder
from model.network import Network
from model.tokenizer import Ids, count_characters

LANE = 1 << 14  # characters of a lane at least: each but the first begins without a past, which costs a little
MOST_LANES = 64
WINDOW = 128  # characters read at once: bounds the memory of the logits

Reader = Callable[[NDArray[np.int64], NDArray[np.int64], Any], tuple[float, Any]]
"""inputs (B, T), targets (B, T), state or None -> summed nats of the targets, next state (list of (B, H))."""


@dataclass(frozen=True)
class Score:
    """How well a text was predicted.

    nats: the sum of -ln p over all scored ids. characters: how many characters those ids spell.
    protocol: what was measured, in words.
    """

    nats: float
    characters: int
    protocol: str

    def __add__(self, other: "Score") -> "Score":
        """Both texts' score, each read by itself."""
        both = self.protocol if self.protocol == other.protocol else f"{self.protocol}; {other.protocol}"
        return Score(self.nats + other.nats, self.characters + other.characters, both)

    @property
    def nats_per_character(self) -> float:
        """Cross-entropy in nats."""
        return self.nats / self.characters

    @property
    def bits_per_character(self) -> float:
        """Cross-entropy in bits: nats / ln 2."""
        return self.nats_per_character / math.log(2)

    def to_json(self) -> dict[str, Any]:
        """The score as JSON values, rounded to what repeats on another machine."""
        return {
            "bits_per_character": round(self.bits_per_character, 4),
            "nats_per_character": round(self.nats_per_character, 4),
            "characters": self.characters,
            "protocol": self.protocol,
        }


def carried(read: Reader, ids: Ids, lanes: int | None = None) -> Score:
    """Score a text (n,) in one pass with the state carried; every id but the first is predicted exactly once.

    The text is cut into lanes read side by side, each starting from a zero state; what the cut leaves over is read on
    from the last lane. lanes: None takes as many of 16,384 characters as there are, up to 64.
    """
    lanes = max(1, min(lanes or min(len(ids) // LANE, MOST_LANES), (len(ids) - 1) // WINDOW))
    width = (len(ids) - 1) // lanes
    starts = np.arange(lanes)[:, None] * width
    total: float = 0.0
    state: Any = None
    for at in range(0, width, WINDOW):
        places = starts + np.arange(at, min(at + WINDOW, width) + 1)
        total, state = _add(read, ids[places], total, state)
    if len(rest := ids[lanes * width :]) > 1:
        total, _ = _add(read, rest[None, :], total, [part[-1:] for part in state])
    text = "one lane" if lanes == 1 else f"{lanes} lanes of {width:,} characters"
    return Score(total, count_characters(ids[1:]), f"carried state, {text}")


def _add(read: Reader, characters: Ids, total: float, state: Any) -> tuple[float, Any]:
    window = characters.astype(np.int64)
    nats, state = read(window[:, :-1], window[:, 1:], state)
    return total + nats, state


def network_reader(network: Network, bf16: bool = False) -> Reader:
    """Read with the PyTorch network, wherever it is, in evaluation mode; its training mode is put back after."""
    device = network.out.weight.device

    def read(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        mode = network.training
        network.eval()
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits, state = network(torch.from_numpy(inputs).to(device), state)
        network.train(mode)
        goal = torch.from_numpy(np.ascontiguousarray(targets)).to(device)
        nats = F.cross_entropy(logits.float().flatten(0, 1), goal.flatten(), reduction="sum")
        return float(nats), state

    return read


def decoder_reader(decoder: Decoder) -> Reader:
    """Read with the CPU decoder, as the text is served; it must have a column for every id."""

    def read(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        state = decoder.initial_state(len(inputs)) if state is None else np.stack(state, axis=1)
        nats = 0.0
        for at in range(inputs.shape[1]):
            logits, state = decoder.step(np.ascontiguousarray(inputs[:, at]), state)
            top = logits.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp((logits - top).astype(np.float64)).sum(axis=1)) + top[:, 0]
            nats += float((log_sum - logits[np.arange(len(logits)), targets[:, at]]).sum())
        return nats, list(state.swapaxes(0, 1))

    return read
