"""A character n-gram that draws molecules: the cheap rival, which counts instead of learning."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Counts = NDArray[np.float64]

LONGEST = 11  # characters of an n-gram: one before them and they fill 60 of 64 bits
BITS = 5
START, END = 0, 1  # codes; those of characters follow
LONGEST_ITEM = 100  # characters after which a drawn molecule is cut


class CharacterGrams:
    """Counts of all n-grams of up to 11 characters; the end of a molecule counts as one.

    A probability is interpolated with that after a shorter context, a Dirichlet prior of `weight` occurrences (MacKay
    and Peto 1995). All windows lie sorted in one array: the places of a context are a range of it.
    """

    def __init__(self, items: Sequence[str]) -> None:
        self.characters = "".join(sorted(set("".join(items))))
        if len(self.characters) > 2**BITS - 2:
            raise ValueError(f"The n-gram knows {2**BITS - 2} characters at most; there are {len(self.characters)}.")
        stream = self._codes(items)
        keys = np.zeros(len(stream) - LONGEST, np.uint64)
        for before in [*range(1, LONGEST + 1), 0]:  # the nearest character first, that a shorter context is a prefix
            keys <<= np.uint64(BITS)
            keys |= stream[LONGEST - before : len(stream) - before]
        follows, last = stream[LONGEST:], stream[LONGEST - 1 : -1]
        self._keys = np.sort(keys[(follows != START) | (last == END)])
        counts = np.bincount(follows[follows != START], minlength=2**BITS)
        self._single: Counts = counts / counts.sum()

    def nats(self, items: Sequence[str], order: int, weight: float) -> float:
        """Nats per character of molecules, their ends among them.

        order: characters of a context and of what follows, 11 at most. weight: of the shorter context, in occurrences.
        """
        stream = self._codes(items)
        places = LONGEST + np.flatnonzero(stream[LONGEST:] != START)
        follows = stream[places]
        contexts, ended = np.zeros(len(places), np.uint64), follows.astype(np.uint64)
        for before in range(1, LONGEST + 1):
            contexts = contexts << np.uint64(BITS) | stream[places - before]
            ended = ended << np.uint64(BITS) | stream[places - before] if before < LONGEST else ended
        chances = self._single[follows]
        for length in range(1, order):
            seen = self._count(contexts, length)
            together = self._count(ended, length + 1)
            chances = (together + weight * chances) / (seen + weight)
        return float(-np.log(chances).mean())

    def draw(self, count: int, order: int, weight: float, seed: int) -> list[str]:
        """Molecules, each from its beginning to its end. order, weight: as in `nats`."""
        random = np.random.default_rng(seed)
        contexts = np.full(count, START, np.uint64)
        texts = np.full((count, LONGEST_ITEM), END, np.uint8)
        alive = np.arange(count)
        for at in range(LONGEST_ITEM):
            drawn = self._next(contexts[alive], order, weight, random)
            texts[alive, at] = drawn
            # The nearest character is the most significant, so older ones move down and the oldest falls out.
            top = np.uint64(BITS * (LONGEST - 1))
            contexts[alive] = contexts[alive] >> np.uint64(BITS) | drawn.astype(np.uint64) << top
            alive = alive[drawn != END]
            if not len(alive):
                break
        signs = np.array(["", "", *self.characters])
        return ["".join(signs[row]) for row in texts]

    def _next(self, contexts: Keys, order: int, weight: float, random: np.random.Generator) -> NDArray[np.uint8]:
        """What follows each context: a place is drawn where the context stands, or where a shorter one does."""
        drawn = random.choice(len(self._single), len(contexts), p=self._single).astype(np.uint8)
        left = np.arange(len(contexts))
        for length in range(order - 1, 0, -1):
            low, high = self._range(contexts[left], length)
            seen = high - low
            here = random.random(len(left)) * (seen + weight) < seen
            places = low[here] + random.integers(seen[here])
            drawn[left[here]] = (self._keys[places] & np.uint64(2**BITS - 1)).astype(np.uint8)
            left = left[~here]
        return drawn

    def _count(self, contexts: Keys, length: int) -> Counts:
        """How often the nearest characters of each context stand in the molecules."""
        low, high = self._range(contexts, length)
        return (high - low).astype(np.float64)

    def _range(self, contexts: Keys, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the windows lie whose nearest characters are those of each context of 11."""
        ignored = np.uint64(BITS * (LONGEST - length))
        first = (contexts >> ignored) << (ignored + np.uint64(BITS))
        after = ((contexts >> ignored) + np.uint64(1)) << (ignored + np.uint64(BITS))
        return np.searchsorted(self._keys, first), np.searchsorted(self._keys, after)

    def _codes(self, items: Sequence[str]) -> NDArray[np.uint8]:
        """Molecules one after the other, before each as many starts as a context is long, after each its end."""
        table = np.zeros(128, np.uint8)
        table[1] = END
        table[[ord(one) for one in self.characters]] = range(2, len(self.characters) + 2)
        text = "".join("\x00" * LONGEST + item + "\x01" for item in items) + "\x00"
        return table[np.frombuffer(text.encode("ascii"), np.uint8)]
