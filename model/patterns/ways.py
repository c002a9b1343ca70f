"""The cheapest ways from each state of a table to an end (Knuth 1977, a generalisation of Dijkstra's algorithm)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple


class Way(NamedTuple):
    """A way from a state: a character, and then from each state of `after` to the end of a text or of a part.

    Of a step alone the figures are its own; of a whole way they are of all of it. length: characters. depth: calls
    within calls. missing: characters that cannot be drawn, a bit each.
    """

    state: int
    character: int
    after: tuple[int, ...]
    length: int
    depth: int
    missing: int


class Ways:
    """The best way from each state that has one, in characters or in missing ones."""

    def __init__(self, steps: Iterable[Way], complete: Sequence[bool], by_missing: bool = False) -> None:
        self.best: dict[int, Way] = {}
        self._cost = _missing if by_missing else _length
        self._heap: list[tuple[int, int, Way]] = []
        needing: dict[int, list[Way]] = defaultdict(list)
        for state, ends in enumerate(complete):
            if ends:
                self._offer(Way(state, 0, (), 0, 0, 0))
        for step in steps:
            for state in step.after:
                needing[state].append(step)
            if not step.after:
                self._offer(step)
        best = self.best
        while self._heap:
            _, reached, way = heappop(self._heap)
            if reached in best:
                continue
            best[reached] = way
            for step in needing[reached]:
                if step.state not in best and (len(step.after) == 1 or all(state in best for state in step.after)):
                    self._offer(self._whole(step))

    def text(self, state: int) -> list[int]:
        """The characters of a state's best way, a bit each."""
        characters, waiting = [], [state]
        while waiting:
            way = self.best[waiting.pop()]
            if way.character:
                characters.append(way.character)
            waiting += reversed(way.after)
        return characters

    def _whole(self, step: Way) -> Way:
        """A step with the best ways from where it leads."""
        state, character, after, _, _, missing = step
        first = self.best[after[0]]
        if len(after) == 1:
            return Way(state, character, after, 1 + first.length, first.depth, missing | first.missing)
        second = self.best[after[1]]  # a call: what it enters is one deeper
        depth = max(first.depth + 1, second.depth)
        return Way(
            state, character, after, 1 + first.length + second.length, depth, missing | first.missing | second.missing
        )

    def _offer(self, way: Way) -> None:
        heappush(self._heap, (self._cost(way), way.state, way))


def _length(way: Way) -> int:
    return way.length


def _missing(way: Way) -> int:
    return way.missing.bit_count()
