"""The online memory in Python: the definition that the compiled one must equal, to the bit.

Each context, the last 2 to 8 ids, remembers what followed it, each successor with a count that fades. The distribution
begins as the network's and goes on from the shortest context to the longest that was met before:

    p(c) <- (1 - w) p(c) + w n(c) / Σ n

an interpolation as Jelinek and Mercer (1980) have it, whose w depends on the context's length, on how often it was met,
on how many different ids followed, and on how likely the likeliest of them is before it has its say. Each w moves
towards the share its context had in what came (Neal & Hinton 1998: a step of expectation maximisation an id).
"""

import math
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.online_memory.weights import DIFFERENT, GROUPS, HIGHEST, LOWEST, OFTEN, ORDERS, SURE

FADE, LEAST = np.float32(0.75), np.float32(2**-6)
PRIOR = 20  # ids that the fitted weights count as
RAREST = 2.0**-126
SURE_ABOVE = (0.05, 0.2, 0.5, 0.8, 0.95)

Successors = dict[int, np.float32]


class ReferenceMemory:
    """What one text has in memory; see `OnlineMemory`, whose work it does where nothing was compiled.

    contexts, successors: how many are kept; the context that was not used for the longest time goes first.
    most: how many ids a weight counts as at most: the fewer, the faster it follows the text.
    """

    def __init__(self, weights: tuple[float, ...], contexts: int, successors: int, most: float) -> None:
        self.weights = list(weights)
        self._seen = [0] * len(weights)
        self._most, self._room = most, (contexts, successors)
        self._contexts: OrderedDict[tuple[int, ...], Successors] = OrderedDict()  # the one used last at the end
        self._kept = 0  # successors
        self._history: tuple[int, ...] = ()

    def score(
        self, ids: NDArray[np.int32], following: NDArray[np.int32], weights: Array, whole: NDArray[np.float64]
    ) -> tuple[Array, Array]:
        """ln p of the ids that follow (T,), and of every id (T, V); see `OnlineMemory.score`."""
        logprobs, every = np.empty(len(ids), np.float32), np.empty(weights.shape, np.float32)
        for at, (before, after) in enumerate(zip(ids.tolist(), following.tolist(), strict=True)):
            if not self._history:
                self._history = (before,)
            own = np.maximum(weights[at].astype(np.float64), RAREST) / whole[at]
            mixed, opinions = self._mixed(own)
            every[at] = [math.log(p) for p in mixed]
            logprobs[at] = np.float32(math.log(self._adapt(float(own[after]), opinions, after)))
            self._learn(after)
        return logprobs, every

    def expect(self, last: int, weights: Array, whole: float) -> Array:
        """ln p of every id (V,) after the last one; see `OnlineMemory.expect`."""
        self._history = self._history or (last,)
        mixed, _ = self._mixed(np.maximum(weights.astype(np.float64), RAREST) / whole)
        return np.array([math.log(p) for p in mixed], np.float32)

    def _known(self) -> list[tuple[int, ...]]:
        return [self._history[:order] for order in ORDERS if order <= len(self._history)]

    def _mixed(self, p: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[tuple[int, float, Successors, float]]]:
        """The distribution (V,), and of each context its weight's number, the weight, and what followed, in all."""
        opinions: list[tuple[int, float, Successors, float]] = []
        p = p.copy()
        for group, context in zip(GROUPS, self._known(), strict=False):
            found = self._contexts.get(context)
            if found is None:
                break
            total, likeliest, most = 0.0, 0, np.float32(0)
            for token, count in reversed(found.items()):
                total += float(count)
                if count > most:
                    most, likeliest = count, token
            sure = sum(float(p[likeliest]) > edge for edge in SURE_ABOVE)
            often = 0 if total < 1.5 else 1 if total < 3 else 2
            number = ((group * OFTEN + often) * DIFFERENT + min(len(found), DIFFERENT) - 1) * SURE + sure
            weight = self.weights[number]
            p = (1 - weight) * p
            for token, count in found.items():
                p[token] += weight * (float(count) / total)
            opinions.append((number, weight, found, total))
        return p, opinions

    def _adapt(self, own: float, opinions: list[tuple[int, float, Successors, float]], token: int) -> float:
        """Move the weights towards the share that each context had in an id; its probability."""
        p, shares = own, []
        for _, weight, found, total in opinions:
            given = weight * (float(found[token]) / total) if token in found else 0.0
            p = (1 - weight) * p + given
            shares.append(given / p)
        left = 1.0
        for (number, weight, *_), share in zip(reversed(opinions), reversed(shares), strict=True):
            times: float = self._seen[number] + 1 + PRIOR
            if times > self._most:
                times = self._most
            else:
                self._seen[number] += 1
            moved = self.weights[number] + left * (share - weight) / times
            self.weights[number] = min(max(moved, LOWEST), HIGHEST)
            left = left * (1 - share)
        return p

    def _learn(self, token: int) -> None:
        for context in self._known():
            if context not in self._contexts and len(self._contexts) == self._room[0]:
                self._forget()
            found = self._contexts.setdefault(context, {})
            self._contexts.move_to_end(context)
            self._follow(found, token)
        self._history = (token, *self._history)[: max(ORDERS)]

    def _follow(self, found: Successors, token: int) -> None:
        met = token in found
        for one in list(found):
            found[one] = found[one] * FADE + np.float32(one == token)
            if found[one] < LEAST:
                del found[one]
                self._kept -= 1
        if met:
            return
        while self._kept == self._room[1]:
            self._forget()
        found[token] = np.float32(1)
        self._kept += 1

    def _forget(self) -> None:
        _, gone = self._contexts.popitem(last=False)
        self._kept -= len(gone)

    def copy(self) -> "ReferenceMemory":
        """Another that goes on from here."""
        other: Any = object.__new__(ReferenceMemory)
        other.__dict__ = {**self.__dict__, "weights": list(self.weights), "_seen": list(self._seen)}
        other._contexts = OrderedDict((context, dict(found)) for context, found in self._contexts.items())
        return other  # type: ignore[no-any-return]
