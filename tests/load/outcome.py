"""What one client saw of its request, in words, whatever happened to it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.load.wire import Answer, HungUpError, Wire, request

COMPLETIONS = "/v1/completions"


@dataclass
class Outcome:
    """An answer as far as it came.

    status: 0 where none began. text: of its only choice. finish: why that ended. code: of an error, in a stream or
    instead of it. whole: whether the answer ended as its protocol says. seconds: from the request to the end.
    """

    status: int = 0
    text: str = ""
    finish: str | None = None
    code: str = ""
    retry_after: str | None = None
    whole: bool = False
    seconds: float = 0.0

    @property
    def words(self) -> str:
        """The same in a few words, without what differs from one client to the next."""
        if not self.status:
            return "connection ended before an answer"
        end = "" if self.whole else ", cut off"
        if self.status != 200:
            retry = f", Retry-After {self.retry_after}" if self.retry_after else ""
            return f"{self.status} {self.code}{retry}{end}"
        if self.code:
            return f"200, then an error event {self.code}{', [DONE]' if self.whole else end}"
        return f"200, finish {self.finish}{end}"


def counted(outcomes: Iterable[Outcome]) -> str:
    """How many clients saw what."""
    return "; ".join(f"{count} × {words}" for words, count in Counter(one.words for one in outcomes).most_common())


async def outcome(port: int, fields: Mapping[str, Any], begun: asyncio.Event | None = None) -> Outcome:
    """Ask for one text on a connection of its own, and see what comes of it. Raises nothing but TimeoutError.

    begun: is set with the first bytes of an answer.
    """
    seen, began = Outcome(), time.perf_counter()
    body = b""
    wire: Wire | None = None
    try:
        wire = await Wire.open(port)
        wire.writer.write(request(COMPLETIONS, fields))
        seen.status, headers = await wire.head()
        seen.retry_after = headers.get("retry-after")
        async for piece in wire.pieces(headers):
            body += piece
            if begun is not None:
                begun.set()
        seen.whole = True
    except (HungUpError, ConnectionError):
        pass
    finally:
        if wire is not None:
            wire.close()
    seen.seconds = time.perf_counter() - began
    if fields.get("stream") and seen.status == 200:
        _read_events(seen, body)
    elif seen.whole:
        _read_whole(seen, Answer(seen.status, {"content-type": "application/json"}, body))
    return seen


def _read_events(seen: Outcome, body: bytes) -> None:
    *events, last = body.split(b"\n\n")
    done = bool(events) and events[-1].endswith(b"data: [DONE]") and not last
    seen.whole = seen.whole and done
    for event in events[: len(events) - done]:
        data = [line.removeprefix(b"data: ") for line in event.split(b"\n") if line.startswith(b"data: ")]
        if not data:  # a comment may stand before an event's data, or alone
            continue
        content = json.loads(b"\n".join(data))
        if "error" in content:
            seen.code = content["error"]["code"]
            continue
        for choice in content["choices"]:
            seen.text += choice["text"]
            seen.finish = choice["finish_reason"] or seen.finish


def _read_whole(seen: Outcome, answer: Answer) -> None:
    if answer.status == 200:
        (choice,) = answer.json["choices"]
        seen.text, seen.finish = choice["text"], choice["finish_reason"]
    else:
        seen.code = answer.code
