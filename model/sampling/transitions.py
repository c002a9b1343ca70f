"""Which ids a row may draw next where its text must match something: a table of states, walked an id at a time.

A part of a text that may stand inside itself, as a JSON object does, is entered by a call and left by a return, as in a
visibly pushdown automaton (Alur & Madhusudan 2004).
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

NOWHERE, RETURN, CALL = -1, -2, -3  # in place of a state; CALL - n is call n
NEVER = 1 << 30  # ids to the end of a text that has none
DEEPEST = 32  # calls within calls; `stack` of kernel.h has room for them
BEGINNING = (0,)  # where a text begins
NO_CALLS = np.zeros((0, 2), np.int32)

Ended = Literal["stop", "length"]
CODES: dict[Ended | None, int] = {None: 0, "stop": 1, "length": 2}
"""How the kernel has it: `ended` of kernel.h."""


@dataclass(frozen=True, slots=True, eq=False)
class Transitions:
    """Which columns may be drawn in each of n states, and where they lead; state 0 is where a text begins.

    classes: the class of each column (S,): columns of one class lead to the same state everywhere.
    next: the state after a column of each class, (n, classes), or NOWHERE, RETURN, or a call.
    shortest: the fewest columns from each state to a complete text, or to the return of its part, (n,).
    complete: whether the text may end there, (n,), 0 or 1.
    calls: the state that each call enters, and the one that its return leads to, (calls, 2).
    depths: how many calls within calls the shortest way from each state takes, (n,); unused without calls.
    """

    classes: NDArray[np.int32]
    next: NDArray[np.int32]
    shortest: NDArray[np.int32]
    complete: NDArray[np.int32]
    calls: NDArray[np.int32] = field(default_factory=lambda: NO_CALLS)
    depths: NDArray[np.int32] = field(default_factory=lambda: NO_CALLS[:, 0])

    @property
    def nbytes(self) -> int:
        """What the arrays take in memory."""
        parts = (self.classes, self.next, self.shortest, self.complete, self.calls, self.depths)
        return sum(part.nbytes for part in parts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of states, classes and calls."""
        return (*self.next.shape, len(self.calls))

    def to_bytes(self) -> bytes:
        """The arrays as bytes, for `from_bytes`."""
        parts = (self.next, self.shortest, self.complete, self.calls, self.depths, self.classes)
        return b"".join(part.astype("<i4").tobytes() for part in parts)

    @classmethod
    def from_bytes(cls, content: bytes, states: int, classes: int, calls: int) -> "Transitions":
        """The transitions that `to_bytes` wrote, by their `shape`."""
        numbers = np.frombuffer(content, "<i4").astype(np.int32)
        sizes = [states * classes, states, states, 2 * calls, states if calls else 0]
        parts = [part.copy() for part in np.split(numbers, np.cumsum(sizes))]
        table, shortest, complete, called, depths, columns = parts
        return cls(columns, table.reshape(states, classes), shortest, complete, called.reshape(calls, 2), depths)

    def allowed(self, state: int, left: int, returns: Sequence[int] = ()) -> NDArray[np.bool_]:
        """The columns (S,) that may be drawn in a state so that what is begun can be completed in `left` columns.

        returns: the states that the calls which are open will return to.
        """
        following = self.next[state]
        states = np.maximum(following, 0)
        costs, depths = self.shortest[states], np.zeros(len(following), np.int32)
        if len(self.calls):
            depths = self.depths[states]
            costs[following == RETURN] = 0
            depths[following == RETURN] = -1
            for at in np.flatnonzero(following <= CALL):
                entered, after = self.calls[CALL - following[at]]
                costs[at] = self.shortest[entered] + self.shortest[after]
                depths[at] = max(1 + self.depths[entered], self.depths[after])
        owed = sum(int(self.shortest[state]) for state in returns)
        fits = (following != NOWHERE) & (owed + costs < left) & (len(returns) + depths <= DEEPEST)
        columns: NDArray[np.bool_] = fits[self.classes]
        return columns

    def after(self, state: int, returns: list[int], column: int) -> int:
        """The state after a column that may be drawn in a state; what calls return to changes with it."""
        following = int(self.next[state, self.classes[column]])
        if following == RETURN:
            return returns.pop()
        if following > CALL:
            return following
        entered, after = self.calls[CALL - following].tolist()
        returns.append(after)
        return int(entered)

    def least(self, place: Sequence[int]) -> int:
        """The fewest columns from a place to a complete text."""
        return sum(int(self.shortest[state]) for state in place)


class Walk:
    """One row's way through transitions.

    left: how many columns it may still draw. place: where it begins; the state, and those that open calls return to.
    ended: why the text has ended: it is complete, or `left` has run out.
    stepwise: the transitions change with every column, so a draw must stop after each.
    Where the text is complete all columns may be drawn; one that does not continue it ends it and is not part of it.
    """

    stepwise = False

    def __init__(self, transitions: Transitions, left: int, place: Sequence[int] = BEGINNING) -> None:
        self.transitions = transitions
        self.state, *self.returns = place
        self.left = left
        self.ended: Ended | None = None
        self._look()

    @property
    def free(self) -> bool:
        """Whether any column may be drawn next, since the text is complete."""
        return bool(self.transitions.complete[self.state])

    def allowed(self) -> NDArray[np.bool_]:
        """The columns (S,) that continue the text."""
        return self.transitions.allowed(self.state, self.left, self.returns)

    def take(self, column: int) -> bool:
        """Go on with a drawn column; whether it is part of the text."""
        if not self.allowed()[column]:
            self.ended = "stop"
            return False
        self.state = self.transitions.after(self.state, self.returns, column)
        self.left -= 1
        self._look()
        return True

    def fork(self) -> "Walk":
        """Another walk that goes on from here by itself."""
        other = copy(self)
        other.returns = self.returns.copy()
        return other

    def _look(self) -> None:
        """Whether the text ends here: nothing can follow it, or nothing may."""
        follows = bool((self.transitions.next[self.state] != NOWHERE).any())
        if not (follows if self.left <= 0 else self.allowed().any()):
            self.ended = "stop" if self.free else "length"
        elif self.left <= 0:
            self.ended = "length"


class Completion:
    """Whether a text that must match something may end; it is read piece by piece.

    walk: the way of the text, for this alone. pieces: the character of each id; ids: of the columns (S,).
    """

    def __init__(self, walk: Walk, pieces: Sequence[str | None], ids: NDArray[np.int64]) -> None:
        self._walk = walk
        self._columns = {pieces[token]: column for column, token in enumerate(ids.tolist())}

    def fork(self) -> "Completion":
        """Another one that goes on from here by itself."""
        other = copy(self)
        other._walk = self._walk.fork()
        return other

    def __call__(self, text: str) -> bool:
        """Read more of the text; whether it may end there."""
        return all(self._walk.take(self._columns[character]) for character in text) and self._walk.free


class AnyConstraint(Protocol):
    """What the texts of a request must match; see `model.constraints.compiling.Compiled`."""

    @property
    def row_bytes(self) -> int:
        """What the way of each row takes in memory, beside what all share."""

    @property
    def nbytes(self) -> int:
        """What all rows share."""

    @property
    def ends(self) -> bool:
        """Whether there are places where a text is complete; where there are none, it may end anywhere."""

    def check(self, max_tokens: int, place: Sequence[int] = BEGINNING) -> None:
        """Raise ParameterError where not even the shortest text that matches fits."""

    def walk(self, left: int, place: Sequence[int] = BEGINNING, written: Sequence[int] = ()) -> Walk:
        """The way of a row that may draw `left` ids: from a place of the table on, or where there is none after the
        columns that are written."""

    def to_bytes(self) -> bytes:
        """Its table; nothing where there is none."""
