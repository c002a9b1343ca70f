"""Server-sent events, their bytes and their ids (WHATWG HTML, section 9.2).

An id is the place of an event in its stream: the same request, sent again with `Last-Event-ID`, continues exactly
after that event on any server of the model. Nothing is stored: the id contains the seed, and the text is written
again. An id is base64url of the seed (8 bytes) and of digests of the model and of the request (6 each), then a dot
and the
place: for each text the characters that were sent and, after a +, the tokens that were reported; e if it has ended,
and - if its prompt is still to be echoed. At the end of a stream a word replaces the place: usage or done.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from fastapi import Request

from model.errors import ParameterError
from service.engine.output import Piece
from service.errors import VersionGone
from service.inference.served_model import ServedModel

# The only line ends of the format; str.splitlines also splits at others.
LINE_END = re.compile("\r\n|\r|\n")
NEXT_LINE = "\ndata: "

ENCODE = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""A value in JSON, as one line of ASCII."""
ENCODE_TEXT: Callable[[str], str] = json.encoder.encode_basestring_ascii
"""The same for a string; it takes a tenth of the time."""

HEADER = "Last-Event-ID"
DIGEST_BYTES = 6  # they detect mistakes: a forged id gets nothing that its request may not have
MOST_PLACES = 64  # texts of a stream with ids; each event has the places of all of them
LARGE = 1 << 20  # bytes of a body; a larger one is not digested in the event loop's thread
PLACE = r"(?:-|\d{1,9}(?:\+\d{1,9})?e?)"
ID = re.compile(rf"([A-Za-z0-9_-]{{27}})\.({PLACE}(?:,{PLACE})*|usage|done)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event; its data may have several lines. id: the line with its id, or an empty string."""

    data: str
    id: str = ""

    @classmethod
    def of_json(cls, value: Mapping[str, Any], id_: str = "") -> "ServerSentEvent":
        """An event whose data is JSON in one line of ASCII, so that no parser ends a line at U+2028 or U+0085."""
        return cls(ENCODE(value), id_)

    def encode(self) -> bytes:
        """The bytes of the event in the stream."""
        return f"data: {LINE_END.sub(NEXT_LINE, self.data)}\n{self.id}\n".encode()


def done_event(line: str = "") -> bytes:
    """The event that ends a stream in OpenAI's dialect; its data comes last, because clients look for it at the
    end."""
    return f"{line}data: [DONE]\n\n".encode()


class ResumePoint(NamedTuple):
    """The content of an id: the seed, digests of the model and of the request, and the place."""

    seed: int
    model: bytes
    request: bytes
    place: str


def resume_point(request: Request) -> ResumePoint | None:
    """The event after which a request continues; None for a new stream. Raises ParameterError if it is not an id."""
    text = request.headers.get(HEADER)
    if not text:
        return None
    if (found := ID.fullmatch(text)) is None:
        raise ParameterError(HEADER, f"The header {HEADER} is not the id of an event of this server; leave it out.")
    raw = base64.urlsafe_b64decode(found[1] + "=")
    return ResumePoint(int.from_bytes(raw[:8], "big"), raw[8:14], raw[14:20], found[2])


class EventIds:
    """The ids of the events of one stream, and which part of it was sent before.

    texts: the number of its texts; with more than `MOST_PLACES` the events have no ids. echoed: whether prompts are
    sent first.
    last: where the stream continues.
    """

    def __init__(self, prefix: str, texts: int, echoed: bool = False, last: ResumePoint | None = None) -> None:
        self._prefix = f"id: {prefix}."
        self._places = ["-" if echoed else "0"] * texts
        self._counts = [(0, 0)] * texts
        self._many = texts > MOST_PLACES
        self.ended = ""
        """Which part of the end of the stream was sent: nothing, usage, or done."""
        self.echoed = set() if echoed else set(range(texts))
        """The texts whose prompts were sent, if prompts are sent."""
        self._left: dict[int, tuple[int, int, bool]] = {}  # of each text: what was sent before; whether it was all
        if last is not None:
            self._resume(last.place)

    def _resume(self, place: str) -> None:
        if place in ("usage", "done"):
            self.ended = place
            self.echoed = set(range(len(self._places)))
            self._left = dict.fromkeys(range(len(self._places)), (0, 0, True))
            return
        places = place.split(",")
        if len(places) != len(self._places):
            raise ParameterError(HEADER, f"The header {HEADER} belongs to a stream with another number of texts.")
        for index, one in enumerate(places):
            if one != "-":
                characters, _, tokens = one.removesuffix("e").partition("+")
                self._left[index] = int(characters), int(tokens or 0), one.endswith("e")
                self.echoed.add(index)
                self._counts[index] = int(characters), int(tokens or 0)
        self._places = places

    @property
    def complete(self) -> bool:
        """Whether all of the stream was sent before, including an event that ends it."""
        return self.ended == "done"

    @property
    def written(self) -> bool:
        """Whether all of the only text was sent before."""
        return self._places[0].endswith("e")

    @property
    def resumed(self) -> bool:
        """Whether later pieces may have been sent before."""
        return bool(self._left)

    def begun(self, index: int) -> bool:
        """Whether an event of a text, other than its prompt, was sent."""
        return bool(self.ended) or self._places[index] not in ("-", "0")

    def unsent(self, index: int, piece: Piece) -> Piece | None:
        """The part of a text's next piece that was not sent before; None if all of it was."""
        if (left := self._left.get(index)) is None:
            return piece
        characters, tokens, all_ = left
        reported = 0 if piece.logprobs is None else len(piece.logprobs.ids)
        self._left[index] = max(0, characters - len(piece.text)), max(0, tokens - reported), all_
        if all_:
            return None
        text = piece.text[characters:]
        logprobs = piece.logprobs
        if logprobs is not None:
            logprobs = logprobs.part(min(tokens, reported), reported)
        if self._left[index] == (0, 0, False):
            del self._left[index]
        if text or (reported > tokens) or piece.finish_reason is not None:
            return piece._replace(text=text, logprobs=logprobs)
        return None

    def echo(self, index: int) -> str:
        """The id line of the event with a text's prompt."""
        self._places[index] = "0"
        return self.line()

    def sent(self, index: int, piece: Piece) -> str:
        """The id line of the event with the next piece of a text."""
        tokens = 0 if piece.logprobs is None else len(piece.logprobs.ids)
        return self.sent_more(index, len(piece.text), tokens, "" if piece.finish_reason is None else "e")

    def sent_more(self, index: int, characters: int, tokens: int = 0, end: str = "") -> str:
        """The id line of the event with this many more characters and reported tokens of a text. end: e if the text
        has ended."""
        before, reported = self._counts[index]
        characters += before
        tokens += reported
        self._counts[index] = characters, tokens
        self._places[index] = f"{characters}+{tokens}{end}" if tokens else f"{characters}{end}"
        return self.line()

    @property
    def tokens(self) -> int:
        """How many events of one token each were sent before, if the stream has one text."""
        return self._counts[0][0]

    def token(self, index: int, *, last: bool) -> str:
        """The id line of the event of one token of the only text."""
        self._places[0] = f"{index}e" if last else str(index)
        return self.line()

    def end(self, stage: str) -> str:
        """The id line of an event after all texts."""
        self.ended = stage
        return self.line()

    def line(self) -> str:
        """The id line of an event at the current place."""
        if self._many:
            return ""
        return f"{self._prefix}{self.ended or ','.join(self._places)}\n"


async def event_ids(
    request: Request, model: ServedModel, seed: int, last: ResumePoint | None, texts: int = 1, echoed: bool = False
) -> EventIds:
    """The ids of the stream that answers a request.

    Raises ParameterError if it continues after an event of another request, and VersionGone if that event belongs to
    another model and is not the last.
    """
    body, path = await request.body(), request.scope["path"].encode("utf-8", "surrogatepass")
    start = seed % 2**64 if last is None else last.seed
    make = partial(_digest, start.to_bytes(8, "big"), path + b"\0", body)
    own = make() if len(body) <= LARGE else await asyncio.to_thread(make)
    served = _digest(model.fingerprint.encode())
    if last is not None and last.request != own:
        message = f"The header {HEADER} belongs to another request; send the original body, or leave the header out."
        raise ParameterError(HEADER, message)
    if last is not None and last.place != "done" and last.model != served:
        raise VersionGone(
            f"The stream that {HEADER} names was written by another version of the model; this server has "
            f"{model.name!r}, {model.facts.digests.model[:12]}. Send the request again without {HEADER}."
        )
    prefix = base64.urlsafe_b64encode(start.to_bytes(8, "big") + served + own).rstrip(b"=").decode()
    return EventIds(prefix, texts, echoed, last)


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()
