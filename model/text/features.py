"""Features of a text at each of its characters, which units of a network may follow; found block by block."""

import unicodedata
from functools import cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Feature = Literal[
    "quotes",
    "brackets",
    "line_position",
    "word_position",
    "spaces",
    "capital_letters",
    "line_breaks",
    "digits",
    "punctuation",
]
FEATURES: tuple[Feature, ...] = get_args(Feature)

DESCRIPTIONS: dict[Feature, str] = {
    "quotes": "1 from an opening quotation mark on, 0 from the closing one on; at most to the next empty line",
    "brackets": "how many brackets are open, of any kind; at most to the next empty line",
    "line_position": "how many characters the line has so far",
    "word_position": "how many letters the word has so far",
    "spaces": "1 at a space or tab",
    "capital_letters": "1 at a capital letter",
    "line_breaks": "1 at a line break",
    "digits": "1 at a digit",
    "punctuation": "1 at a mark of punctuation",
}
QUOTES = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c\u201d", "\u00ab": "\u00bb"}  # what closes what each opens
ENDS = frozenset("".join(QUOTES.values()))
OPENING, CLOSING = "([{", ")]}"
LETTER, SPACE, CAPITAL, BREAK, DIGIT, PUNCTUATION, EVENT = (1 << at for at in range(7))
FLAGS: dict[Feature, int] = {
    "spaces": SPACE,
    "capital_letters": CAPITAL,
    "line_breaks": BREAK,
    "digits": DIGIT,
    "punctuation": PUNCTUATION,
}
LAST_PLAIN = 0x3000  # characters before this one are looked up in a table


def kind_of(character: str) -> int:
    """What a character is, as a sum of the flags above."""
    event = character == "\n" or character in QUOTES or character in ENDS or character in OPENING + CLOSING
    flags = (
        (LETTER, character.isalpha()),
        (SPACE, unicodedata.category(character) == "Zs" or character == "\t"),
        (CAPITAL, character.isupper()),
        (BREAK, character == "\n"),
        (DIGIT, character.isdigit()),
        (PUNCTUATION, unicodedata.category(character)[0] == "P"),
        (EVENT, event),
    )
    return sum(flag for flag, is_it in flags if is_it)


@cache
def _table() -> NDArray[np.uint8]:
    """What the characters before LAST_PLAIN are."""
    return np.array([kind_of(chr(code)) for code in range(LAST_PLAIN)], np.uint8)


class TextFeatures:
    """Follows a text from its beginning, in blocks of characters."""

    def __init__(self) -> None:
        self._table = _table()
        self._closes = ""  # what closes the quotation that is open; empty where none is
        self._open = 0
        self._in_line = self._in_word = 0  # characters so far

    def block(self, text: str) -> dict[Feature, Numbers]:
        """The features at each of the next characters, (characters,) each."""
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        kinds = self._table[np.minimum(codes, LAST_PLAIN - 1)]
        for at in np.flatnonzero(codes >= LAST_PLAIN).tolist():
            kinds[at] = kind_of(text[at])
        quotes, brackets = self._nested(text, kinds)
        line = _since(kinds & BREAK > 0, self._in_line)
        word = _since(kinds & LETTER == 0, self._in_word)
        if len(text):
            self._in_line, self._in_word = int(line[-1]), int(word[-1])
        found = {name: (kinds & flag > 0).astype(np.float64) for name, flag in FLAGS.items()}
        found |= {"quotes": quotes, "brackets": brackets, "line_position": line, "word_position": word}
        return found

    def _nested(self, text: str, kinds: NDArray[np.uint8]) -> tuple[Numbers, Numbers]:
        """Whether a quotation is open, and how many brackets are, after each character."""
        quotes, brackets = np.zeros(len(text)), np.zeros(len(text))
        begun = 0
        in_line = self._in_line
        for at in np.flatnonzero(kinds & EVENT).tolist():
            quotes[begun:at], brackets[begun:at] = bool(self._closes), self._open
            in_line += at - begun
            self._follow(text[at], in_line == 0)
            in_line = 0 if text[at] == "\n" else in_line + 1
            quotes[at], brackets[at] = bool(self._closes), self._open
            begun = at + 1
        quotes[begun:], brackets[begun:] = bool(self._closes), self._open
        return quotes, brackets

    def _follow(self, character: str, blank: bool) -> None:
        """Go on with a character that opens or ends something. blank: whether it is the first of its line."""
        if character == "\n":
            if blank:
                self._closes, self._open = "", 0
        elif self._closes and character in self._closes:
            self._closes = ""
        elif character in QUOTES and not self._closes:
            self._closes = QUOTES[character]
        elif character in OPENING:
            self._open += 1
        elif character in CLOSING:
            self._open = max(0, self._open - 1)


def _since(marks: NDArray[np.bool_], before: int) -> Numbers:
    """How many characters each stands after the last mark, which is 0 itself; `before` of them came earlier."""
    places = np.arange(len(marks))
    last = np.maximum.accumulate(np.where(marks, places, -1 - before)) if len(marks) else places
    return (places - last).astype(np.float64)
