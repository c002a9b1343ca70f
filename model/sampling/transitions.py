"""Which ids a row may draw next where its text must match something: a table of states, walked an id at a time."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

NOWHERE = -1
NEVER = 1 << 30  # ids to the end of a text that has none

Ended = Literal["stop", "length"]
CODES: dict[Ended | None, int] = {None: 0, "stop": 1, "length": 2}
"""How the kernel has it: `ended` of kernel.h."""


@dataclass(frozen=True, slots=True, eq=False)
class Transitions:
    """Which columns may be drawn in each of n states, and where they lead; state 0 is where a text begins.

    classes: the class of each column (S,): columns of one class lead to the same state everywhere.
    next: the state after a column of each class, (n, classes), or NOWHERE.
    shortest: the fewest columns from each state to a complete text, (n,); 0 where it is complete.
    complete: whether the text may end there, (n,), 0 or 1.
    """

    classes: NDArray[np.int32]
    next: NDArray[np.int32]
    shortest: NDArray[np.int32]
    complete: NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """What the arrays take in memory."""
        return self.classes.nbytes + self.next.nbytes + self.shortest.nbytes + self.complete.nbytes

    def to_bytes(self) -> bytes:
        """The arrays as bytes, for `from_bytes`."""
        parts = (self.next, self.shortest, self.complete, self.classes)
        return b"".join(part.astype("<i4").tobytes() for part in parts)

    @classmethod
    def from_bytes(cls, content: bytes, states: int, classes: int) -> "Transitions":
        """The transitions that `to_bytes` wrote, by their numbers of states and of classes."""
        numbers = np.frombuffer(content, "<i4").astype(np.int32)
        table, shortest, complete, columns = np.split(numbers, np.cumsum([states * classes, states, states]))
        return cls(columns.copy(), table.copy().reshape(states, classes), shortest.copy(), complete.copy())

    def allowed(self, state: int, left: int) -> NDArray[np.bool_]:
        """The columns (S,) that may be drawn in a state so that what is begun can be completed in `left` columns."""
        following = self.next[state]
        fits = (following != NOWHERE) & (self.shortest[following] < left)  # row NOWHERE is any row, and not asked
        columns: NDArray[np.bool_] = fits[self.classes]
        return columns


class Walk:
    """One row's way through transitions.

    left: how many columns it may still draw. state: where it begins.
    ended: why the text has ended: it is complete, or `left` has run out.
    stepwise: the transitions change with every column, so a draw must stop after each.
    Where the text is complete all columns may be drawn; one that does not continue it ends it and is not part of it.
    """

    stepwise = False

    def __init__(self, transitions: Transitions, left: int, state: int = 0) -> None:
        self.transitions = transitions
        self.state = state
        self.left = left
        self.ended: Ended | None = None
        self._look()

    @property
    def free(self) -> bool:
        """Whether any column may be drawn next, since the text is complete."""
        return bool(self.transitions.complete[self.state])

    def allowed(self) -> NDArray[np.bool_]:
        """The columns (S,) that continue the text."""
        return self.transitions.allowed(self.state, self.left)

    def take(self, column: int) -> bool:
        """Go on with a drawn column; whether it is part of the text."""
        if not self.allowed()[column]:
            self.ended = "stop"
            return False
        self.state = int(self.transitions.next[self.state, self.transitions.classes[column]])
        self.left -= 1
        self._look()
        return True

    def _look(self) -> None:
        """Whether the text ends here: nothing can follow it, or nothing may."""
        follows = bool((self.transitions.next[self.state] != NOWHERE).any())
        if not (follows if self.left <= 0 else self.allowed().any()):
            self.ended = "stop" if self.free else "length"
        elif self.left <= 0:
            self.ended = "length"


class AnyConstraint(Protocol):
    """What the texts of a request must match; see `model.constraints.compiling.Compiled`."""

    @property
    def row_bytes(self) -> int:
        """What the way of each row takes in memory, beside what all share."""

    @property
    def nbytes(self) -> int:
        """What all rows share."""

    def check(self, max_tokens: int) -> None:
        """Raise ParameterError where not even the shortest text that matches fits."""

    def walk(self, left: int) -> Walk:
        """The way of a row that may draw `left` ids."""
