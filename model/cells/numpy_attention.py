"""Attention over a window in numpy: one step, which the compiled kernel must equal to the bit.

With integer products the scores are sums of integers, too: a query is rounded to 127ths of its largest number.
"""

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import LEAST_NORMAL, Array, exp, levels, log, tanh, total
from model.cells.attention import BLOCK, FOLLOWED, GROUP, KEY, KEYS, NEWEST, SCALE
from model.cells.state_layout import StateLayout

MOST_GAP = np.float32(60)  # between the largest score and the sentinel's: beyond, the network has no say
SMALLEST = np.float32(1e-12)
LARGEST = np.float32(127)


class NumpyAttention:
    """The ring buffer of keys in rows' states, and its effect on logits.

    layout: of a state. recency: the score added for each distance (window - 1,). int8: whether queries are rounded.
    """

    def __init__(self, layout: StateLayout, recency: Array, int8: bool) -> None:
        self._int8 = int8
        self._keys, self._followed, self._newest = layout[KEYS], layout[FOLLOWED], layout[NEWEST].start
        self._window = len(recency) + 1
        self._recency = np.append(recency, np.float32(0))  # of distances 1 … window - 1, and of 0

    def remember(self, ids: NDArray[np.integer], projected: Array, state: Array) -> None:
        """Store the ids (B,) that were read as followers of the last keys, and add the new keys.

        projected: (B, 2 · KEY + 1), of the hidden states after them. state: (B, floats), changed in place.
        """
        rows = np.arange(len(state))
        newest = state[:, self._newest].astype(np.int64)
        followed = state[:, self._followed]
        there = newest > 0
        followed[rows[there], newest[there] - 1] = ids[there] + 1
        place = newest % self._window
        followed[rows, place] = 0
        state[:, self._followed] = followed
        state[:, self._newest] = place + 1
        keys = self._ring(state)
        keys[rows, place // BLOCK, :, place % BLOCK] = levels(tanh(projected[:, KEY : 2 * KEY])).reshape(
            len(rows), KEY // GROUP, GROUP
        )
        state[:, self._keys] = keys.reshape(len(rows), -1).view(np.float32)

    def point(self, projected: Array, state: Array, logits: Array, columns: NDArray[np.int32]) -> Array:
        """Logits (B, S) whose distribution is the mixture, from the network's logits.

        columns: the column of each id (V,), -1 for none.
        """
        after: Array = logits.copy()
        keys = self._ring(state).swapaxes(2, 3).reshape(len(state), self._window, KEY)
        keys = keys.astype(np.int32 if self._int8 else np.float32)
        for row, (own, ring) in enumerate(zip(projected, keys, strict=True)):
            followed = state[row, self._followed].astype(np.int64)
            if not followed.any():
                continue
            query, one = _rounded(own[:KEY]) if self._int8 else (own[:KEY], np.float32(1))
            distance = (int(state[row, self._newest]) - 1 - np.arange(self._window)) % self._window
            scores = (ring @ query).astype(np.float32) * (one * np.float32(SCALE)) + self._recency[distance - 1]
            seen = np.flatnonzero(followed)
            seen = seen[np.argsort(distance[seen])]  # the nearest first
            most = scores[seen].max()
            column = columns[followed[seen] - 1]
            mass = np.zeros(logits.shape[1], np.float32)
            np.add.at(mass, column[column >= 0], exp(scores[seen] - most)[column >= 0])  # in this order
            after[row] = _mixed(logits[row], mass, np.minimum(most - own[2 * KEY], MOST_GAP))
        return after

    def _ring(self, state: Array) -> NDArray[np.int8]:
        """The keys of rows, (B, window / 16, KEY / 4, 16, 4); a copy."""
        whole = np.ascontiguousarray(state[:, self._keys]).view(np.int8)
        return whole.reshape(len(state), self._window // BLOCK, KEY // GROUP, BLOCK, GROUP)


def _rounded(query: Array) -> tuple[NDArray[np.int32], np.float32]:
    """A query as integers from -127 to 127, and the value of 1."""
    one = np.maximum(np.abs(query).max(), SMALLEST) / LARGEST
    return np.rint(query / one).astype(np.int32), one


def _mixed(logits: Array, mass: Array, gap: np.float32) -> Array:
    """Logits (S,) with the attention added: their softmax, plus mass times exp(gap), not normalised."""
    largest = logits.max()
    weights = exp(logits - largest)
    factor = np.float32(total(weights[None])[0]) * exp(np.array(gap))
    shares: Array = weights + factor * mass
    pointed = (mass > 0) & (shares >= LEAST_NORMAL)
    mixed: Array = np.where(pointed, largest + log(np.maximum(shares, LEAST_NORMAL)), logits)
    return mixed
