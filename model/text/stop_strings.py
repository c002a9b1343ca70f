"""Stop strings: finds the first one in a text that arrives in pieces, and what must be held back until then."""

import re
from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from model.errors import ParameterError
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES

LARGEST_STOP = 1024  # characters; a table of this length is kept for each stop string


class StopStrings:
    """Stop strings and what looking for them needs; the same for all texts of a request, so it is made once.

    end: what ends a text of the model by itself, a stop string of every text; "" for nothing.
    The failure tables are those of Knuth, Morris & Pratt 1977. Raises ParameterError on an empty string or one over
    1,024 characters.
    """

    def __init__(self, stop: Sequence[str], end: str = "") -> None:
        self.end = "" if end in stop else end
        """What ends a text by itself, where it is no stop string that the user named."""
        stop = [*stop, self.end] if self.end else stop
        for text in stop:
            if not 0 < len(text) <= LARGEST_STOP:
                raise ParameterError("stop", f"A stop string has {len(text):,} characters; use 1 to {LARGEST_STOP:,}.")
        self._tables = [(text, _failure_table(text)) for text in stop]
        self.firsts = sorted({text[0] for text in stop})
        """The characters that stop strings begin with."""
        self.lasts = sorted({text[-1] for text in stop})
        """The characters that they end with."""
        self.beginning = re.compile("|".join(map(re.escape, self.firsts)))
        """Finds one of those characters."""

    def matchers(self) -> list["StopMatcher"]:
        """A matcher of each string, for one text."""
        return [StopMatcher(text, failure) for text, failure in self._tables]

    def starts(self, tokenizer: Tokenizer) -> NDArray[np.bool_]:
        """Which ids (V,) may begin something that is held back: every byte, and the first character of a string.

        A stream that is not `holding` shows all other ids as they are, so its text need not be searched.
        """
        starts = np.zeros(tokenizer.size, np.bool_)
        starts[:BYTES] = True  # a byte may also complete U+FFFD, or a character that has no id of its own
        columns = (tokenizer.characters.find(first) for first in self.firsts)
        starts[[BYTES + column for column in columns if column >= 0]] = True
        return starts


class StopMatcher:
    """How much of one stop string the text so far ends with, in constant time per character."""

    __slots__ = ("_failure", "matched", "stop")

    def __init__(self, stop: str, failure: "array[int]") -> None:
        self.stop = stop
        self.matched = 0
        self._failure = failure

    def advance(self, character: str) -> bool:
        """Read one character; whether it completes the stop string."""
        while self.matched and character != self.stop[self.matched]:
            self.matched = self._failure[self.matched - 1]
        self.matched += character == self.stop[self.matched]
        return self.matched == len(self.stop)

    def go_on(self) -> None:
        """Look for the next one after one that was found, which may begin within it."""
        self.matched = self._failure[-1]

    def begun(self) -> Iterator[int]:
        """How many characters of the text so far may belong to the string: the most first."""
        length = self.matched
        while length:
            yield length
            length = self._failure[length - 1]


def _failure_table(stop: str) -> "array[int]":
    """Of each character: how much of the string its beginning up to there ends with, but for all of it."""
    failure = array("H", bytes(2 * len(stop)))
    length = 0
    for at in range(1, len(stop)):
        while length and stop[at] != stop[length]:
            length = failure[length - 1]
        length += stop[at] == stop[length]
        failure[at] = length
    return failure
