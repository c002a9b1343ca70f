"""Ids in, text out, in pieces of any size: whole characters only, and never a piece of a stop string."""

import codecs
from bisect import bisect_left
from collections.abc import Sequence
from copy import copy
from itertools import accumulate
from typing import Literal, Protocol, Self, cast

from model.text.stop_strings import StopMatcher, StopStrings
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES


class AnyCompletion(Protocol):
    """Whether a text may end; see `model.sampling.transitions.Completion`."""

    def fork(self) -> Self:
        """Another one that goes on from here by itself."""

    def __call__(self, text: str) -> bool:
        """Read more of the text; whether it may end there."""


class TextStream:
    """Turns the ids of one text into pieces of it that may be shown.

    It holds back the bytes of an unfinished character and what may be the beginning of a stop string, and nothing else.
    Pieces joined in any grouping of the ids give the same text. Bytes that are not UTF-8 become U+FFFD; a character
    cut off by the end is left out.

    stop: strings that end the text, as StopStrings where several texts share them. `stopped` names the one that did.
        What separates items ends a text, too, and is no part of it; `stop_reason` is None then.
    include_stop: the stop string that ends the text is part of it, its end; otherwise it is left out.
    complete: of a text that must match something. What separates items ends it only where it may end; elsewhere it is
        part of the text.
    min_tokens: the first ids, this many, are shown as they are; stop strings are looked for after them.
    taken: ids consumed so far, up to and with the one that completed a stop string.
    Raises ParameterError on an empty stop string or one over 1,024 characters.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] | StopStrings = (),
        include_stop: bool = False,
        min_tokens: int = 0,
        complete: AnyCompletion | None = None,
    ) -> None:
        strings = stop if isinstance(stop, StopStrings) else StopStrings(stop, tokenizer.frame.separator)
        self._end = strings.end
        self._complete = complete if strings.end else None
        self._unread = ""  # text that `complete` has not read
        self._resumed_ends: tuple[int, ...] = ()
        self._pieces = tokenizer.pieces
        self._matchers = strings.matchers()
        self._beginning = strings.beginning
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._in_character = False
        self._held = ""
        self._include_stop = include_stop
        self._min_tokens = min_tokens
        self.stopped: str | None = None
        self.taken = 0

    @property
    def holding(self) -> bool:
        """Whether the text so far may end in an unfinished character or in the beginning of a stop string."""
        return self.stopped is None and (self._in_character or self._held != "")

    @property
    def held(self) -> str:
        """The text held back, without the bytes of an unfinished character."""
        return "" if self.stopped else self._held

    @property
    def undecoded(self) -> bytes:
        """The bytes of an unfinished character."""
        return self._bytes.getstate()[0]

    @property
    def ends(self) -> tuple[int, ...]:
        """Where the beginning of a separator that is held back would end the text: its lengths, the longest first."""
        if self._complete is None or self.stopped is not None:
            return ()
        complete, read, ends = self._complete.fork(), 0, []
        for matcher in self._matchers:
            for length in matcher.begun() if matcher.stop == self._end else ():
                at = len(self._unread) - length
                if complete(self._unread[read:at]) if at >= 0 else -at in self._resumed_ends:
                    ends.append(length)
                read = max(at, 0)
        return tuple(ends)

    def resume(self, taken: int, held: str, undecoded: bytes, ends: Sequence[int] = ()) -> str:
        """Go on where another stream was after `taken` ids, in the place of the ids so far; nothing was fed yet.

        Returns the text that may be shown now: with the same stop strings nothing, as it holds back the same.
        """
        self.taken = taken
        self._bytes.decode(undecoded)
        self._in_character = bool(self.undecoded)
        shown = self._match(held)[0] if self._matchers and taken >= self._min_tokens else held
        self._unread, self._resumed_ends = "", tuple(ends)  # what `complete` reads begins after it
        return shown

    @property
    def stop_reason(self) -> str | None:
        """The stop string that ended the text; None while it goes on, and where it ended by itself."""
        return None if self.stopped == self._end else self.stopped

    def feed(self, ids: Sequence[int]) -> str:
        """Take more ids, none after the one that completes a stop string; the text that may be shown now."""
        if self.stopped is not None:
            return ""
        early = max(0, self._min_tokens - self.taken) if self._matchers else len(ids)
        if early:
            shown = self._note("".join(self._spell(ids[:early])))
            self.taken += min(early, len(ids))
            return shown + self.feed(ids[early:]) if len(ids) > early else shown
        parts = self._spell(ids)
        shown, end = self._match("".join(parts))
        # An id of a byte may spell no character, or two: the lengths tell which id spelled the last character.
        self.taken += len(ids) if self.stopped is None else bisect_left([*accumulate(map(len, parts))], end) + 1
        return shown

    def fork(self) -> "TextStream":
        """Another stream that goes on from here by itself."""
        other = copy(self)
        other._matchers = [copy(matcher) for matcher in self._matchers]
        other._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")
        other._bytes.setstate(self._bytes.getstate())
        other._complete = None if self._complete is None else self._complete.fork()
        return other

    def flush(self) -> str:
        """The text held back in case a stop string was on its way, once no more ids come."""
        held, self._held = ("" if self.stopped else self._held), ""
        return held

    def _spell(self, ids: Sequence[int]) -> list[str]:
        """What each id adds to the text."""
        parts = [self._pieces[token] for token in ids]
        if self._in_character or None in parts:
            return [self._spell_one(token, piece) for token, piece in zip(ids, parts, strict=True)]
        return cast(list[str], parts)

    def _spell_one(self, token: int, piece: str | None) -> str:
        """The same where some ids are bytes: an id of a character ends an unfinished one."""
        if piece is not None and not self._in_character:
            return piece
        raw = bytes([token]) if token < BYTES else (piece or "").encode("utf-8")
        text = self._bytes.decode(raw)
        self._in_character = bool(self._bytes.getstate()[0])
        return text

    def _match(self, text: str) -> tuple[str, int]:
        """What may be shown after more text, and how much of it was read: all, or what completes a stop string."""
        shown, at = [], 0
        while at < len(text) and self.stopped is None:
            if not self._held:
                beginning = self._beginning.search(text, at)
                start = beginning.start() if beginning else len(text)
                shown.append(self._note(text[at:start]))
                at = start
            if at < len(text):
                shown.append(self._match_one(text[at]))
                at += 1
        return "".join(shown), at

    def _match_one(self, character: str) -> str:
        complete = [matcher for matcher in self._matchers if matcher.advance(character)]
        self._held += self._note(character)
        if complete and self._complete is not None and not self._may_end(complete, self._complete):
            complete = [matcher for matcher in complete if matcher.stop != self._end]
        if complete:
            # Where two end here, the longer one began earlier: cutting there shows neither.
            self.stopped = max((matcher.stop for matcher in complete), key=len)
            shown, self._held = self._held, ""
            return shown if self._include_stop and self.stopped != self._end else shown[: -len(self.stopped)]
        keep = max(matcher.matched for matcher in self._matchers)
        at = len(self._held) - keep
        shown, self._held = self._held[:at], self._held[at:]
        return shown

    def _note(self, text: str) -> str:
        """The same text; it is kept for `complete`, too."""
        if self._complete is not None:
            self._unread += text
        return text

    def _may_end(self, found: Sequence[StopMatcher], complete: AnyCompletion) -> bool:
        """Whether the text may end before the separator that was found, if it was; where not, look for another."""
        for matcher in found:
            if matcher.stop == self._end:
                at = len(self._unread) - len(self._end)
                before, self._unread = self._unread[: max(at, 0)], self._unread[max(at, 0) :]
                if complete(before) if at >= 0 else -at in self._resumed_ends:
                    return True
                matcher.go_on()
                return False
        return True


FinishReason = Literal["stop", "length"]
