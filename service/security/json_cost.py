"""The memory and time to parse a JSON body, counted from its bytes beforehand."""

import re

# Values of a body: as many as the ids of a prompt of a hundred thousand words, parsed in a hundredth of a second.
MOST_VALUES = 200_000
MOST_PLAIN = 2_000_000  # bytes outside of strings, without white space: ten for each id
MOST_DIGITS = 512  # of a number: reading n digits takes n² steps

# In values: the cost of a member's name beside its value, and how many escape sequences take as long as one value.
NAME_VALUES, ESCAPES_A_VALUE = 20, 20
QUOTE_BYTES = 4  # of MOST_PLAIN, for the counting around a quotation mark
VALUE_BYTES = 64  # memory of a value in a list, or of a short string
WIDEST = 4  # bytes of memory for a byte of text: in Python all characters of a string have the width of the widest

NUMBER = re.compile(rb"[0-9.eE+-]{64,}")
NUMBER_BYTES = b"0123456789.eE+-"
LONG, ALIKE = b"0" * 64, bytes.maketrans(NUMBER_BYTES, b"0" * len(NUMBER_BYTES))  # for a quick search


class JsonCost:
    """Counts separators outside of strings (commas, colons, opening brackets), and everything else that takes time.

    Eight megabytes of one string are parsed in some milliseconds, but of small values in a second, in which the event
    loop does nothing else. Counting takes a millisecond for each megabyte, before anything is allocated.

    values: limited by MOST_VALUES. plain: limited by MOST_PLAIN. digits: of the longest number so far, if it has more
    than 64. utf8: False once the bytes can only be UTF-16 or UTF-32, which Python's parser would also read.
    """

    def __init__(self) -> None:
        self.plain = 0
        self.digits = 0
        self.utf8 = True
        self._separators = 0
        self._escapes = 0
        self._bytes = 0
        self._head = b""
        self._wide = False
        self._in_string = False
        self._escaped = False  # the previous piece ended with a backslash that escapes the next byte
        self._running = 0  # bytes of a number at the end of the previous piece

    @property
    def values(self) -> int:
        """Values so far, with the time of everything else converted to values."""
        return self._separators + self._escapes // ESCAPES_A_VALUE

    @property
    def parsed(self) -> int:
        """The most bytes of memory that parsing will take, in addition to the body."""
        return self._bytes * (WIDEST if self._wide else 1) + self._separators * VALUE_BYTES

    def add(self, piece: bytes) -> int:
        """Count the next bytes, which may be split anywhere; returns the values so far."""
        if len(self._head) < 2:
            self._head += piece[: 2 - len(self._head)]
            self.utf8 = b"\0" not in self._head and self._head not in (b"\xff\xfe", b"\xfe\xff")
        self._bytes += len(piece)
        self._wide = self._wide or not piece.isascii()
        if self._escaped and piece:
            piece, self._escaped = piece[1:], False
        if b"\\" in piece:
            self._wide = True  # \ud83d\ude00 is as wide as a character can be
            trailing = len(piece) - len(piece.rstrip(b"\\"))
            self._escaped = bool(trailing % 2)
            self._escapes += piece.count(b"\\")
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = piece.split(b'"')
        self.plain += QUOTE_BYTES * (len(parts) - 1)
        if outside := b"".join(parts[self._in_string :: 2]):
            self._outside(outside)
        self._in_string ^= not len(parts) % 2
        return self.values

    def _outside(self, part: bytes) -> None:
        """Count bytes outside of strings; between two strings there is at least a comma or a colon."""
        self._separators += part.count(b",") + part.count(b"[") + part.count(b"{") + NAME_VALUES * part.count(b":")
        self.plain += len(part.translate(None, b" \t\r\n"))
        first = len(part) - len(part.lstrip(NUMBER_BYTES))
        self.digits = max(self.digits, self._running + first)
        if LONG in part.translate(ALIKE):
            self.digits = max(self.digits, *map(len, NUMBER.findall(part)))
        last = len(part) - len(part.rstrip(NUMBER_BYTES))
        self._running = self._running + last if last == len(part) else last
