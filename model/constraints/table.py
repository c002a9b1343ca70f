"""A pattern's places explored into a table of states, as far as it has few enough of them (Rabin & Scott 1959)."""

from collections.abc import Sequence as Row
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.constraints.constraint import Limits
from model.constraints.pattern_tree import NotRegular
from model.constraints.positions import Positions
from model.sampling.transitions import NEVER, NOWHERE, Transitions

MOST_VISITS = 400_000  # places looked at while states are explored, heavier where there are many; about 0.1 s


@dataclass(frozen=True, slots=True)
class Table:
    """States of a pattern over an alphabet; state 0 is where a text begins.

    classes: sets of characters that lead to the same state everywhere, a bit for each character.
    next: the state after each class, by state. complete: whether a text may end in each.
    """

    classes: list[int]
    next: list[list[int]]
    complete: list[bool]

    def shortest(self, known: int) -> list[int]:
        """The fewest known characters from each state to the end of a text; NEVER where there is no way."""
        usable = [at for at, mask in enumerate(self.classes) if mask & known]
        before: list[list[int]] = [[] for _ in self.next]
        for state, following in enumerate(self.next):
            for after in {following[at] for at in usable} - {NOWHERE}:
                before[after].append(state)
        distances = [0 if complete else NEVER for complete in self.complete]
        reached = [state for state, complete in enumerate(self.complete) if complete]
        for state in reached:  # grows as it is walked: breadth first
            for earlier in before[state]:
                if distances[earlier] == NEVER:
                    distances[earlier] = distances[state] + 1
                    reached.append(earlier)
        return distances

    def missing(self, known: int) -> int:
        """The unknown characters of the text that matches with the fewest of them, a bit each; 0 where none matches."""
        fewest: dict[int, int] = {0: 0}  # the unknown characters on the best way to each state
        waiting = [(0, 0)]  # (how many, state), cheapest first
        while waiting:
            count, state = heappop(waiting)
            if self.complete[state]:
                return fewest[state]
            if count > fewest[state].bit_count():
                continue
            for mask, after in zip(self.classes, self.next[state], strict=True):
                if after == NOWHERE or not mask:
                    continue
                needed = fewest[state] | (0 if mask & known else mask & -mask)
                if after not in fewest or needed.bit_count() < fewest[after].bit_count():
                    fewest[after] = needed
                    heappush(waiting, (needed.bit_count(), after))
        return 0

    def transitions(self, columns: Row[int], known: int) -> Transitions:
        """The table as a row walks it. columns: the character of each column of the logits, by its bit; -1 for none."""
        shortest = self.shortest(known)
        table: NDArray[np.int32] = np.full((len(self.next), len(self.classes) + 1), NOWHERE, np.int32)
        for at, mask in enumerate(self.classes):
            if mask & known:
                table[:, at] = [row[at] for row in self.next]
        distances = np.array(shortest, np.int32)
        table[(table != NOWHERE) & (distances[table] == NEVER)] = NOWHERE
        classes = np.full(len(columns), len(self.classes), np.int32)
        by_bit = {bit: at for at, mask in enumerate(self.classes) for bit in _bits(mask)}
        for column, bit in enumerate(columns):
            classes[column] = by_bit.get(bit, len(self.classes))
        return Transitions(classes, table, distances, np.array(self.complete, np.int32))

    def allowed(self, state: int) -> int:
        """The characters that may follow in a state."""
        mask = 0
        for at, after in enumerate(self.next[state]):
            if after != NOWHERE:
                mask |= self.classes[at]
        return mask


class _State(NamedTuple):
    """What identifies a state: the places that may come next, and whether the text may end."""

    following: int
    complete: bool


def explore(positions: Positions, limits: Limits) -> Table:
    """The table of a pattern. Raises NotRegular where it takes more states or work than the limits allow."""
    classes, takes = _classes(positions)
    if not classes:
        classes, takes = [0], [0]
    start = _State(positions.ends.first, positions.ends.empty)
    numbers, states, table = {start: 0}, [start], []
    reached: dict[int, int] = {}  # the number of the state that some places, just taken, lead to
    visits, weight = 0, 1 + len(positions.takes) // 1024
    most = min(limits.states, limits.cells // len(classes))
    for state in states:  # grows as it is walked
        row = []
        for taken in takes:
            places = state.following & taken
            if not places:
                row.append(NOWHERE)
                continue
            number = reached.get(places)
            if number is None:
                visits += places.bit_count() * weight
                after = _State(positions.after(places), bool(places & positions.ends.last))
                number = numbers.get(after)
                if number is None:
                    number = numbers[after] = len(states)
                    states.append(after)
                reached[places] = number
            row.append(number)
        table.append(row)
        if len(states) > most or visits > MOST_VISITS:
            raise NotRegular(f"its table takes more than {most:,} states, or more work than a table is worth")
    return Table(classes, table, [state.complete for state in states])


def _classes(positions: Positions) -> tuple[list[int], list[int]]:
    """Sets of characters that no place tells apart, and the places that take each."""
    by_set: dict[int, int] = {}
    for place, taken in enumerate(positions.takes):
        by_set[taken] = by_set.get(taken, 0) | 1 << place
    classes: list[tuple[int, int]] = []
    for taken, places in by_set.items():
        left, split = taken, []
        for mask, others in classes:
            both = mask & taken
            if both:
                split.append((both, others | places))
                left &= ~both
            if mask & ~taken:
                split.append((mask & ~taken, others))
        classes = [*split, (left, places)] if left else split
    return [mask for mask, _ in classes], [places for _, places in classes]


def _bits(mask: int) -> list[int]:
    return [at for at in range(mask.bit_length()) if mask >> at & 1]
