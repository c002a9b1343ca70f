"""Readers with the online memory beside the network, and its weights fitted on held-out text."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.checkpoint import Checkpoint
from model.decoding.decoder import Decoder
from model.decoding.rows import AnyDecoder
from model.online_memory.memory import OnlineMemory
from model.online_memory.weights import HIGHEST, LOWEST, MemoryWeights
from model.text.utf8_ids import Ids
from training.evaluation.protocols import WINDOW
from training.evaluation.readers import Reader

MOST_IDS = 1 << 16  # of the held-out text that are read: two hundred numbers need no more
FEWEST_IDS = 1 << 10
ENDLESS = 2.0**40  # ids that a weight counts as while it is fitted: it becomes the mean
DIGITS = 4

Distributions = tuple[Array, NDArray[np.float64]]
"""exp of the logits less their largest (B, T, V), and what they add up to (B, T)."""
Distribute = Callable[[NDArray[np.int64], NDArray[np.int64], Any], tuple[Distributions, Any]]


class Memories:
    """The memories of rows read side by side, made when the first window comes, each of its own row alone."""

    def __init__(self, weights: MemoryWeights) -> None:
        self._weights = weights

    def nats(
        self, memories: list[OnlineMemory] | None, ids: NDArray[np.int64], targets: NDArray[np.int64], of: Distributions
    ) -> tuple[float, list[OnlineMemory]]:
        """The nats of targets (B, T) after ids (B, T) by distributions, and the memories that have learnt them."""
        if memories is None:
            memories = [OnlineMemory(self._weights) for _ in ids]
        nats = 0.0
        windows = zip(memories, ids.astype(np.int32), targets.astype(np.int32), *of, strict=True)
        for memory, before, after, weights, whole in windows:
            nats -= float(memory.score(before, after, weights, whole)[0].sum(dtype=np.float64))
        return nats, memories


def remembering(distribute: Distribute, memories: Memories) -> Reader:
    """Read with a memory for each row, which begins empty and has all that the row has read."""

    def read(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        found, after = distribute(inputs, targets, None if state is None else state[:-1])
        nats, kept = memories.nats(None if state is None else state[-1], inputs, targets, found)
        return nats, [*after, kept]

    return read


def decoder_distributions(decoder: AnyDecoder) -> Distribute:
    """The distributions of the decoder, as text is served."""

    def distribute(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[Distributions, Any]:
        rows = decoder.rows(len(inputs))
        if state is not None:
            rows.state[:] = state[0]
        slots = range(len(inputs))
        scored = rows.score(slots, inputs.astype(np.int32), targets.astype(np.int32), weights=True)
        assert scored.weights is not None
        assert scored.wholes is not None
        return (scored.weights, scored.wholes), [rows.state.copy()]

    return distribute


def fit_memory(checkpoint: Checkpoint, validation: Ids, seconds: float | None = None) -> MemoryWeights | None:
    """The weights that a memory comes to which reads held-out text (n,) with the network as it is served.

    The first 65,536 ids are read once, in one sequence; fewer where they would take more than `seconds`. None where
    there are fewer than 1,024, or of a list.
    """
    if checkpoint.tokenizer.frame.items:
        return None
    found = fit_to(decoder_distributions(Decoder(checkpoint)), validation[:MOST_IDS], seconds)
    return None if found is None else replace(found, protocol=f"{found.protocol}, int8 as served")


def fit_to(distribute: Distribute, validation: Ids, seconds: float | None = None) -> MemoryWeights | None:
    """The same for a text (n,) and whatever predicts it; all of it is read, or as much as `seconds` allow."""
    ids = validation.astype(np.int64)
    if len(ids) < FEWEST_IDS:
        return None
    memory, state = OnlineMemory(MemoryWeights(), most=ENDLESS), None
    start, at = time.monotonic(), 0
    while at < len(ids) - 1 and (at < FEWEST_IDS or seconds is None or time.monotonic() - start < seconds):
        before, after = ids[at : at + WINDOW + 1][:-1], ids[at : at + WINDOW + 1][1:]
        (weights, wholes), state = distribute(before[None], after[None], state)
        memory.score(before.astype(np.int32), after.astype(np.int32), weights[0], wholes[0])
        at += len(before)
    values = tuple(min(max(round(weight, DIGITS), LOWEST), HIGHEST) for weight in memory.weights)
    return MemoryWeights(values, f"the first {at + 1:,} ids of the validation part, read once in one sequence")
