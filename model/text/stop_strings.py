"""Stop strings: finds the first one in a text that arrives in pieces, and what must be held back until then."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES

LARGEST_STOP = 1024  # characters; a matcher keeps a table of this length for each stop string


class StopMatcher:
    """How much of one stop string the text so far ends with, in constant time per character.

    The failure table is that of Knuth, Morris & Pratt 1977.
    """

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.matched = 0
        self._failure = [0] * len(stop)
        length = 0
        for at in range(1, len(stop)):
            while length and stop[at] != stop[length]:
                length = self._failure[length - 1]
            length += stop[at] == stop[length]
            self._failure[at] = length

    def advance(self, character: str) -> bool:
        """Read one character; whether it completes the stop string."""
        while self.matched and character != self.stop[self.matched]:
            self.matched = self._failure[self.matched - 1]
        self.matched += character == self.stop[self.matched]
        return self.matched == len(self.stop)


def stop_starts(tokenizer: Tokenizer, stop: Sequence[str]) -> NDArray[np.bool_]:
    """Which ids (V,) may begin something that is held back: every byte, and the first character of a stop string.

    A stream that is not `holding` shows all other ids as they are, so its text need not be searched.
    """
    starts = np.zeros(tokenizer.size, np.bool_)
    starts[:BYTES] = True  # a byte may also complete U+FFFD, or a character that has no id of its own
    columns = (tokenizer.characters.find(first) for first in _first_characters(stop))
    starts[[BYTES + column for column in columns if column >= 0]] = True
    return starts


def _first_characters(stop: Sequence[str]) -> list[str]:
    return sorted({text[0] for text in stop})
