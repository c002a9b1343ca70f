"""Rows scored with the online memory beside the network, in flat memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import Rows, Scored, Slots
from model.online_memory.memory import OnlineMemory, score_rows
from model.sampling.probabilities import entropy, likeliest

SLICE = 64  # rows × steps whose distributions are held at once


def score_with(
    rows: Rows,
    memories: Sequence[OnlineMemory | None],
    slots: Slots,
    ids: NDArray[np.int32],
    following: NDArray[np.int32],
    top: int | None = None,
    columns: NDArray[np.int32] | None = None,
) -> Scored:
    """What `Rows.score` tells of ids (B, T), by the distributions that the row's memory makes of the network's.

    memories: of each row (B,), None for none; each learns what followed.
    """
    width = max(1, SLICE // max(1, len(ids)))
    pieces = [
        _score(rows, memories, slots, ids[:, at : at + width], following[:, at : at + width], top, columns)
        for at in range(0, ids.shape[1], width)
    ]
    parts: list[Any] = [None if part[0] is None else np.concatenate(part, axis=1) for part in zip(*pieces, strict=True)]
    return Scored(*parts)


def _score(
    rows: Rows,
    memories: Sequence[OnlineMemory | None],
    slots: Slots,
    ids: NDArray[np.int32],
    following: NDArray[np.int32],
    top: int | None,
    columns: NDArray[np.int32] | None,
) -> Scored:
    scored = rows.score(slots, ids, following, top, columns, weights=True)
    assert scored.weights is not None
    assert scored.wholes is not None
    if top is None:
        score_rows(memories, ids, following, (scored.logprobs, scored.weights, scored.wholes))
        return scored._replace(weights=None, wholes=None)
    for row, memory in enumerate(memories):
        if memory is None:
            continue
        distributions = scored.weights[row], scored.wholes[row]
        logprobs, every = memory.score(ids[row], following[row], *distributions, every=top is not None)
        scored.logprobs[row] = logprobs
        if every is not None:
            _place(scored, row, every, logprobs, following[row])
    return scored._replace(weights=None, wholes=None)


def _place(scored: Scored, row: int, every: Any, own: Any, following: NDArray[np.int32]) -> None:
    """Enter ranks, entropies and the likeliest ids by ln p of every id (T, V)."""
    assert scored.ranks is not None
    assert scored.entropies is not None
    assert scored.top_ids is not None
    assert scored.top_logprobs is not None
    columns = np.arange(every.shape[1])
    before = (every > own[:, None]) | ((every == own[:, None]) & (columns < following[:, None]))
    scored.ranks[row] = before.sum(axis=1)
    scored.entropies[row] = entropy(every)
    top = likeliest(every, scored.top_ids.shape[2])
    scored.top_ids[row] = top
    scored.top_logprobs[row] = np.take_along_axis(every, top, axis=1)
