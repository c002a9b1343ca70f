"""Clients who do nothing unusual while something happens to others, and what they saw of it."""

import asyncio
from types import TracebackType
from typing import Any, NamedTuple

from tests.load.outcome import Outcome, counted, outcome
from tests.load.process import Running

COUNT = 4  # half of them streamed
CHARACTERS = 400  # of each of their texts


class Row(NamedTuple):
    """A line of the table: what was done, what those saw to whom it was done, what bystanders saw, what the server did
    after; and whether all of that is as it has to be."""

    done: str
    seen: str
    bystanders: str
    after: str
    holds: bool


def fields(at: int) -> dict[str, Any]:
    """The text of one bystander, always the same."""
    return {"prompt": f"Bystander {at} says ", "max_tokens": CHARACTERS, "seed": at, "stream": at % 2 == 0}


class Bystanders:
    """Clients who ask for the same texts again and again, for an `async with` block; after it `words` and `unharmed`
    tell what they saw. Each text is compared with the one it had before the block."""

    def __init__(self, server: Running) -> None:
        self.outcomes: list[Outcome] = []
        self.others = 0
        self._server = server
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = [asyncio.Event() for _ in range(COUNT)]

    async def __aenter__(self) -> "Bystanders":
        expected = [(await outcome(self._server.port, fields(at))).text for at in range(COUNT)]
        if not all(expected):
            raise RuntimeError("a text of a bystander was empty before anything happened")
        self._tasks = [asyncio.create_task(self._ask(at, text)) for at, text in enumerate(expected)]
        await asyncio.gather(*(event.wait() for event in self._begun))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _ask(self, at: int, expected: str) -> None:
        while not self._over:
            seen = await outcome(self._server.port, fields(at), self._begun[at])
            self.outcomes.append(seen)
            self.others += seen.whole and seen.status == 200 and not seen.code and seen.text != expected
            if not seen.status:
                return  # there is no server any more

    @property
    def unharmed(self) -> bool:
        """Whether all their texts were whole and the same as before."""
        return not self.others and all(one.whole and one.finish == "length" for one in self.outcomes)

    @property
    def words(self) -> str:
        """What they saw."""
        if self.unharmed:
            slowest = max(one.seconds for one in self.outcomes)
            return f"nothing: {len(self.outcomes)} texts whole and the same, the slowest in {slowest:.2g} s"
        return counted(self.outcomes) + (f"; {self.others} texts are others" if self.others else "")
