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
        self._by_missing = by_missing
        self._heap: list[tuple[int, int, Way]] = []
        needing: dict[int, list[Way]] = defaultdict(list)
        for state, ends in enumerate(complete):
            if ends:
                self._offer(Way(state, 0, (), 0, 0, 0))
        for step in steps:
            for state in set(step.after):
                needing[state].append(step)
            if not step.after:
                self._offer(step)
        while self._heap:
            _, _, way = heappop(self._heap)
            if way.state in self.best:
                continue
            self.best[way.state] = way
            for step in needing[way.state]:
                if step.state not in self.best and all(state in self.best for state in step.after):
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
        rest = [self.best[state] for state in step.after]
        missing = step.missing
        for way in rest:
            missing |= way.missing
        depths = [way.depth for way in rest]
        if len(rest) > 1:  # a call: what it enters is one deeper
            depths[0] += 1
        return step._replace(length=1 + sum(way.length for way in rest), depth=max(depths), missing=missing)

    def _offer(self, way: Way) -> None:
        cost = way.missing.bit_count() if self._by_missing else way.length
        heappush(self._heap, (cost, way.state, way))
