"""Ids in, text out, one step at a time: whole characters only, and never a piece of a stop string."""

import codecs
from collections.abc import Sequence

from model.errors import ParameterError
from model.tokenizer import BYTES, Tokenizer

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


class TextStream:
    """Turns the ids of one text into pieces of it that may be shown.

    Held back are the bytes of an unfinished character and whatever could be the beginning of a stop string, no more.
    Pieces joined in any grouping of the ids give the same text. Bytes that are not UTF-8 become U+FFFD; a character
    cut off by the end is left out.

    stop: strings that end the text; they are not part of it. `stopped` names the one that did.
    Raises ParameterError on an empty stop string or one over 1,024 characters.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        for text in stop:
            if not 0 < len(text) <= LARGEST_STOP:
                raise ParameterError("stop", f"A stop string has {len(text):,} characters; use 1 to {LARGEST_STOP:,}.")
        self._pieces = tokenizer.pieces
        self._matchers = [StopMatcher(text) for text in stop]
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._in_character = False
        self._held = ""
        self.stopped: str | None = None

    def decode(self, token: int) -> str:
        """Take one more id; the text that may be shown now, often one character, sometimes none."""
        piece = self._pieces[token]
        if piece is None or self._in_character:
            piece = self._decode_bytes(token, piece)
        if not self._matchers:
            return piece
        shown = ""
        for character in piece:
            if self.stopped is None:
                shown += self._match(character)
        return shown

    def flush(self) -> str:
        """The text held back in case a stop string was on its way, once no more ids come."""
        held, self._held = ("" if self.stopped else self._held), ""
        return held

    def _decode_bytes(self, token: int, piece: str | None) -> str:
        """Text of a byte id, or of a character id that interrupts unfinished bytes."""
        raw = bytes([token]) if token < BYTES else (piece or "").encode("utf-8")
        text = self._bytes.decode(raw)
        self._in_character = bool(self._bytes.getstate()[0])
        return text

    def _match(self, character: str) -> str:
        complete = [matcher for matcher in self._matchers if matcher.advance(character)]
        self._held += character
        if complete:
            # Of two that end here the longer began earlier: cutting there shows nothing of either.
            self.stopped = max((matcher.stop for matcher in complete), key=len)
            shown, self._held = self._held[: -len(self.stopped)], ""
            return shown
        keep = max(matcher.matched for matcher in self._matchers)
        at = len(self._held) - keep
        shown, self._held = self._held[:at], self._held[at:]
        return shown
