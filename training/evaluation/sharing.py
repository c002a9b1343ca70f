"""What several processes measure together: pieces of work that need nothing of each other, dealt out to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import gcd
from typing import Any, Protocol

from training.evaluation.score import Score


class Sharing(Protocol):
    """The processes that measure together. All call the same methods in the same order, and all get the same."""

    @property
    def count(self) -> int:
        """How many they are."""

    def of_first(self, make: Callable[[], Any]) -> Any:
        """What the first of them makes, as JSON values."""

    def dealt(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """What each of some pieces of work returns, as JSON values, in their order. Each is done by one of them."""


class _One:
    """A process that measures alone."""

    count = 1

    def of_first(self, make: Callable[[], Any]) -> Any:
        return make()

    def dealt(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        return [work() for work in works]


BY_ONE: Sharing = _One()


@dataclass(frozen=True)
class Measurement:
    """A score that is not measured yet.

    pieces: each gives the nats of its part of the text. The rest is as of the Score.
    """

    pieces: Sequence[Callable[[], float]]
    characters: int
    protocol: str
    items: int | None = None


def pieces_each(count: int, texts: int) -> int:
    """The fewest pieces of each of some texts that so many processes can share evenly."""
    return count // gcd(count, texts)


def measured(what: Mapping[str, Measurement], sharing: Sharing = BY_ONE) -> dict[str, Score]:
    """The scores of some texts by name; their nats are added up in the order of the pieces, not of the ranks."""
    nats = iter(sharing.dealt([piece for one in what.values() for piece in one.pieces]))
    return {
        name: Score(sum(islice(nats, len(one.pieces))), one.characters, one.protocol, items=one.items)
        for name, one in what.items()
    }
