"""Adds up how much a text surprises, in constant memory, to the same bits however the text was cut into pieces."""

import math

import numpy as np

from model.arithmetic import Array

BLOCK = 4096  # scores added up at a time, so that the sum does not depend on how the text was cut
BITS = 1 / math.log(2)  # in a nat


class SurpriseSum:
    """Adds up -ln of the probabilities of a text's ids."""

    def __init__(self) -> None:
        self._block = np.empty(BLOCK, np.float32)
        self._filled = 0
        self._nats = 0.0

    def add(self, logprobs: Array) -> None:
        """Add the next ids (n,) by their log-probabilities."""
        at = 0
        while at < len(logprobs):
            count = min(len(logprobs) - at, BLOCK - self._filled)
            self._block[self._filled : self._filled + count] = logprobs[at : at + count]
            self._filled += count
            at += count
            if self._filled == BLOCK:
                self._nats, self._filled = self.nats, 0

    @property
    def nats(self) -> float:
        """-ln of the probability of the ids added up: exact sums of blocks, so that it depends only on the text."""
        return math.fsum([self._nats, *(-self._block[: self._filled]).tolist()])


def nats_of(logprobs: Array) -> float:
    """What `SurpriseSum` makes of a whole text (n,)."""
    if len(logprobs) < BLOCK:
        return math.fsum([0.0, *(-logprobs).tolist()])
    added = SurpriseSum()
    added.add(logprobs)
    return added.nats
