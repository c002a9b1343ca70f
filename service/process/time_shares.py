"""Shares a thread's time among callers: who has had more than its share waits until the others have theirs."""

from collections.abc import Hashable, Mapping

SLACK = 0.001  # seconds of time, by weight, that a caller may be ahead of the others: about a turn
FALL = 1 / 2  # a caller's weight falls with its rows to this power
CLEARED = 64  # callers that have gone and are remembered beside as many as there are

EVERYBODY: frozenset[Hashable] = frozenset()
"""Nobody waits."""


class TimeShares:
    """How much of a thread's time each caller has had, by its weight; for one thread.

    This is start-time fair queueing (Goyal, Vin and Cheng 1996) of calls in which rows of many callers take part: each
    row is charged an equal part of its call. A caller who comes starts with the one who has had least, and one who has
    left keeps what it was ahead until the others have had as much, so that nobody gains by coming anew.

    A caller weighs 1 / rows ^ FALL: rows in one batch are cheap, so a caller of many gives way to those of few.
    With one caller, and while all have equal rows, nobody ever waits.
    """

    def __init__(self) -> None:
        self._rows: dict[Hashable, int] = {}
        self._had: dict[Hashable, float] = {}  # seconds by weight, of those who have rows
        self._ahead: dict[Hashable, float] = {}  # seconds that those who have gone were ahead of the least
        self._least = 0.0
        self._uniform = True  # whether all callers have equal rows
        self._waiting = EVERYBODY
        self._stale = False  # whether it has to be found anew who is ahead

    def __len__(self) -> int:
        """How many callers have rows."""
        return len(self._rows)

    @property
    def shared(self) -> bool:
        """Whether calls have to be charged."""
        return len(self._rows) > 1 or bool(self._ahead)

    @property
    def waiting(self) -> frozenset[Hashable]:
        """The callers who are ahead, and whose rows wait in the next turn."""
        if self._stale:
            self._look()
        return self._waiting

    def enter(self, caller: Hashable, rows: int) -> None:
        """A caller has so many rows more."""
        if caller not in self._rows:
            if self._stale:
                self._look()
            self._had[caller] = self._least + self._ahead.pop(caller, 0.0)
        self._rows[caller] = self._rows.get(caller, 0) + rows
        self._stale = True

    def leave(self, caller: Hashable, rows: int) -> None:
        """A caller has so many rows less."""
        self._rows[caller] -= rows
        if not self._rows[caller]:
            del self._rows[caller]
            ahead = self._had.pop(caller) - self._least
            if self._rows and ahead > 0:
                self._ahead[caller] = ahead
        if not self._rows:
            self._ahead.clear()
        self._stale = True

    def charge(self, rows: Mapping[Hashable, int], seconds: float) -> None:
        """A call took so long, in which so many rows of each caller took part."""
        if self._stale:
            self._look()
        each = seconds / max(1, sum(rows.values()))
        if self._uniform and len(rows) == len(self._rows) and len(set(rows.values())) == 1:
            self._rise(each * self._cost(*next(iter(rows.items()))))  # only differences matter
            return
        for caller, count in rows.items():
            if caller in self._had:
                self._had[caller] += each * self._cost(caller, count)
        self._stale = True

    def _cost(self, caller: Hashable, count: int) -> float:
        return count * float(self._rows[caller] ** FALL)

    def _look(self) -> None:
        """See who is ahead now."""
        self._stale = False
        self._uniform = len(set(self._rows.values())) <= 1
        least = min(self._had.values(), default=0.0)
        if least > self._least:
            self._rise(least - self._least)
        self._least = least
        most = least + SLACK
        waiting = [caller for caller, had in self._had.items() if had > most]
        self._waiting = frozenset(waiting) if waiting else EVERYBODY

    def _rise(self, seconds: float) -> None:
        """All have had so much more: those who have gone are less ahead."""
        if self._ahead:
            self._ahead = {caller: left for caller, ahead in self._ahead.items() if (left := ahead - seconds) > 0}
            if len(self._ahead) > len(self._rows) + CLEARED:
                del self._ahead[min(self._ahead, key=lambda caller: self._ahead[caller])]
