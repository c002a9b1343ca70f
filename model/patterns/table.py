"""A pattern's places explored into a table of states, as far as it has few enough of them (Rabin & Scott 1959).

A part that may stand inside itself has states of its own: a call enters it, and a return leaves it.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.patterns.pattern_tree import NotRegular
from model.patterns.positions import Positions, bits
from model.patterns.ways import Way, Ways
from model.sampling.transitions import CALL, DEEPEST, NEVER, NO_CALLS, NOWHERE, RETURN, Transitions

MOST_VISITS = 400_000  # places looked at while states are explored, heavier where there are many; about 0.1 s
MOST_LENGTH = 1 << 12  # characters of the shortest text; parts within parts multiply


@dataclass(frozen=True, slots=True)
class Table:
    """States of a pattern over an alphabet; state 0 is where a text begins.

    classes: sets of characters that lead to the same state everywhere, a bit for each character.
    next: the state after each class, by state, or NOWHERE, RETURN or a call; see `Transitions`.
    complete: whether a text may end in each. calls: the states that each call enters and returns to.
    """

    classes: list[int]
    next: list[list[int]]
    complete: list[bool]
    calls: list[tuple[int, int]] = field(default_factory=list)
    _steps: dict[int, list[dict[int, int]]] = field(default_factory=dict, compare=False)

    def ways(self, known: int) -> Ways:
        """The shortest ways from each state through known characters."""
        return Ways(self._ways(known), self.complete)

    def missing(self, known: int) -> int:
        """The unknown characters of a text that matches with few of them, a bit each; 0 where none matches."""
        best = Ways(self._all_ways(known), self.complete, by_missing=True).best
        return best[0].missing if 0 in best else 0

    def transitions(self, columns: Row[int], known: int) -> Transitions:
        """The table as a row walks it. columns: the character of each column of the logits, by its bit; -1 for none.

        Raises NotRegular where the shortest text is so long, or nests so deep, that a row cannot be sure to end it.
        """
        best = self.ways(known).best
        if 0 in best and (best[0].length > MOST_LENGTH or best[0].depth > DEEPEST):
            raise NotRegular("its shortest text is too long, or nests too deep")
        # what is longer is not entered, and so not added up beyond what an int32 holds
        ends = {state: way for state, way in best.items() if way.length <= MOST_LENGTH}
        distances = np.array([ends[at].length if at in ends else NEVER for at in range(len(self.next))], np.int32)
        depths = np.array([ends[at].depth if at in ends else 0 for at in range(len(self.next))], np.int32)
        table: NDArray[np.int32] = np.full((len(self.next), len(self.classes) + 1), NOWHERE, np.int32)
        for at, mask in enumerate(self.classes):
            if mask & known:
                table[:, at] = [row[at] for row in self.next]
        table[(table >= 0) & (distances[np.maximum(table, 0)] == NEVER)] = NOWHERE
        calls = np.array(self.calls, np.int32) if self.calls else NO_CALLS
        for number in np.flatnonzero((distances[calls] == NEVER).any(axis=1)):
            table[table == CALL - number] = NOWHERE
        classes = np.full(len(columns), len(self.classes), np.int32)
        by_bit = {bit: at for at, mask in enumerate(self.classes) for bit in bits(mask)}
        for column, bit in enumerate(columns):
            classes[column] = by_bit.get(bit, len(self.classes))
        complete = np.array(self.complete, np.int32)
        return Transitions(classes, table, distances, complete, calls, depths if self.calls else NO_CALLS[:, 0])

    def after(self, following: int) -> tuple[int, ...]:
        """The states that must be gone through after what stands in a row of `next`."""
        return (following,) if following >= 0 else self.calls[CALL - following] if following <= CALL else ()

    def steps(self, known: int) -> list[dict[int, int]]:
        """For each state what may follow it, as in `next`, and the known characters that lead there."""
        if known in self._steps:
            return self._steps[known]
        usable = [(at, mask & known) for at, mask in enumerate(self.classes) if mask & known]
        steps = self._steps[known] = []
        for row in self.next:
            following: dict[int, int] = {}
            for at, mask in usable:
                after = row[at]
                if after != NOWHERE:
                    following[after] = following.get(after, 0) | mask
            steps.append(following)
        return steps

    def _ways(self, known: int) -> Iterator[Way]:
        """One known character for each way out of each state."""
        for state, following in enumerate(self.steps(known)):
            for after, mask in following.items():
                yield Way(state, mask & -mask, self.after(after), 1, 0, 0)

    def _all_ways(self, known: int) -> Iterator[Way]:
        """The same with unknown characters, where no known one leads on."""
        known_steps = self.steps(known)
        for state, following in enumerate(self.steps(~0)):
            for after, mask in following.items():
                missing = 0 if after in known_steps[state] else mask & -mask
                yield Way(state, missing or mask & -mask, self.after(after), 1, 0, missing)


class _State(NamedTuple):
    """What identifies a state: the places that may come next, and whether the text may end."""

    following: int
    complete: bool


def explore(positions: Positions, states: int, cells: int) -> Table:
    """The table of a pattern. Raises NotRegular where it takes more states, cells or work than allowed."""
    return _Explorer(positions, states, cells).table()


class _Explorer:
    """Finds the states of a pattern, and where each leads."""

    def __init__(self, positions: Positions, states: int, cells: int) -> None:
        self._positions = positions
        self._classes, self._takes = _classes(positions)
        self._most = min(states, cells // max(1, len(self._classes)))
        self._weight = 1 + len(positions.takes) // 1024
        self._visits = 0
        self._numbers: dict[_State, int] = {}
        self._states: list[_State] = []
        self._calls: dict[tuple[int, int], int] = {}
        self._enter = sum(1 << place for place in positions.enters)
        self._leave = 0
        for part in positions.parts:
            self._leave |= part.last

    def table(self) -> Table:
        """All of it."""
        self._number(self._positions.ends.first, self._positions.ends.empty)
        reached: dict[int, int] = {}  # what some places, just taken, lead to
        table = []
        for state in self._states:  # grows as it is walked
            row = []
            for taken in self._takes:
                places = state.following & taken
                if places and places not in reached:
                    reached[places] = self._after(places)
                row.append(reached[places] if places else NOWHERE)
            table.append(row)
            if len(self._states) > self._most or self._visits > MOST_VISITS:
                most = f"{self._most:,}"
                raise NotRegular(f"its table takes more than {most} states, or more work than a table is worth")
        return Table(self._classes, table, [state.complete for state in self._states], list(self._calls))

    def _number(self, following: int, complete: bool) -> int:
        state = _State(following, complete)
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self._states)
            self._states.append(state)
        return number

    def _after(self, places: int) -> int:
        """The number of the state after some places, or a call, or a return."""
        self._visits += places.bit_count() * self._weight
        if places & self._leave:
            if places & ~self._leave:
                raise NotRegular("a part of it may end where another goes on")
            return RETURN
        after = self._number(self._positions.after(places), bool(places & self._positions.ends.last))
        if not places & self._enter:
            return after
        if places & (places - 1):
            raise NotRegular("a part that may stand inside itself begins as another does")
        part = self._positions.parts[self._positions.enters[places.bit_length() - 1]]
        call = (self._number(part.first, False), after)
        return CALL - self._calls.setdefault(call, len(self._calls))


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
    return ([mask for mask, _ in classes], [places for _, places in classes]) if classes else ([0], [0])
