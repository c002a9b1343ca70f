"""Whether a text is a list in no order: its lines are short, and what stands before a line says little of it."""

import random
import zlib
from dataclasses import dataclass
from itertools import pairwise

from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids

LOOKED_AT = 1 << 19  # ids of the beginning
FEWEST_LINES = 200
LONGEST_LINE = 1000  # characters of a line on the average
EMPTY = 0.02  # of a list's lines may be; between paragraphs, verses and speakers every third to tenth line is

# What is gained by the order of lines that have one: of 2.4 to 12 % in texts, and of 0.2 % in shuffled lists.
GAIN = 0.01
SORTED = 0.75  # of neighbouring lines are in the order of their characters, as by name or time; half are by chance


@dataclass(frozen=True)
class Lines:
    """The lines of a text's beginning.

    count: of those that are not empty; characters: of one on the average; empty: the share of empty ones.
    gain: how much smaller they are packed in their order than shuffled, as a share. ascending: the share of neighbours
    that are in the order of their characters.
    """

    count: int
    characters: float
    empty: float
    gain: float
    ascending: float

    @property
    def are_sorted(self) -> bool:
        """Whether their characters sort them, up or down."""
        return not 1 - SORTED < self.ascending < SORTED

    @property
    def are_a_list(self) -> bool:
        """Whether they seem to be items: many short lines, hardly an empty one, sorted or in no order."""
        short = self.count >= FEWEST_LINES and self.characters <= LONGEST_LINE and self.empty <= EMPTY
        return short and (self.are_sorted or self.gain <= GAIN)

    def in_words(self) -> str:
        """Why they seem to be a list."""
        order = "sorted" if self.are_sorted else "in no order"
        return f"{self.count:,} lines of {self.characters:.0f} characters on the average, {order}"


def lines_of(ids: Ids, tokenizer: Tokenizer) -> Lines:
    """Measure the lines at the beginning of a text (n,), in some hundredths of a second."""
    text = tokenizer.decode(ids[:LOOKED_AT].tolist())
    every = text.split("\n")[:-1]  # what follows the last line break may be half a line
    lines = [line for line in every if line.strip()]
    if len(lines) < FEWEST_LINES:
        return Lines(len(lines), 0.0, 0.0, 0.0, 0.0)
    shuffled = random.Random(1).sample(lines, len(lines))
    ascending = sum(one <= other for one, other in pairwise(lines)) / (len(lines) - 1)
    gain = 1 - _packed(lines) / _packed(shuffled)
    characters = sum(map(len, lines)) / len(lines)
    return Lines(len(lines), characters, 1 - len(lines) / len(every), gain, ascending)


def _packed(lines: list[str]) -> int:
    """Bytes of the lines as zlib packs them, which finds what the last 32,768 bytes had."""
    return len(zlib.compress("\n".join(lines).encode("utf-8"), 9))
