"""Shares a thread's time among callers: one that has had more than its share waits until the others have theirs."""

from collections.abc import Hashable, Mapping

SLACK = 0.001  # weighted seconds that a caller may be ahead of the others: about a turn
FALL = 1 / 2  # a caller's weight falls with its rows to this power
CLEARED = 64  # callers without rows that are remembered, in addition to as many as have rows

EVERYBODY: frozenset[Hashable] = frozenset()
"""No caller waits."""


class TimeShares:
    """How much of a thread's time each caller has had, by its weight; for one thread.

    This is start-time fair queueing (Goyal, Vin and Cheng 1996) of calls that contain rows of many callers: each row
    is charged an equal part of its call. A new caller starts level with the one that has had least. A caller that has
    left stays charged for its lead until the others have caught up, so nobody gains by leaving and coming back.

    A caller's weight is 1 / rows ^ FALL: rows in one batch are cheap, so a caller with many gives way to those with
    few. A single caller never waits, and nobody waits while all have equal rows.
    """

    def __init__(self) -> None:
        self._rows: dict[Hashable, int] = {}
        self._had: dict[Hashable, float] = {}  # weighted seconds of callers with rows
        self._ahead: dict[Hashable, float] = {}  # lead of callers without rows over the least
        self._least = 0.0
        self._uniform = True  # whether all callers have equal rows
        self._waiting = EVERYBODY
        self._stale = False  # whether `_waiting` must be computed again

    def __len__(self) -> int:
        """How many callers have rows."""
        return len(self._rows)

    @property
    def shared(self) -> bool:
        """Whether calls have to be charged."""
        return len(self._rows) > 1 or bool(self._ahead)

    @property
    def waiting(self) -> frozenset[Hashable]:
        """The callers that are ahead, and whose rows wait in the next turn."""
        if self._stale:
            self._look()
        return self._waiting

    def enter(self, caller: Hashable, rows: int) -> None:
        """Add rows of a caller."""
        if caller not in self._rows:
            if self._stale:
                self._look()
            self._had[caller] = self._least + self._ahead.pop(caller, 0.0)
        self._rows[caller] = self._rows.get(caller, 0) + rows
        self._stale = True

    def leave(self, caller: Hashable, rows: int) -> None:
        """Remove rows of a caller."""
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
        """Charge the seconds of a call to the rows of each caller in it."""
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
        """Compute who is ahead."""
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
        """All callers have had more: reduce the lead of those without rows."""
        if self._ahead:
            self._ahead = {caller: left for caller, ahead in self._ahead.items() if (left := ahead - seconds) > 0}
            if len(self._ahead) > len(self._rows) + CLEARED:
                del self._ahead[min(self._ahead, key=lambda caller: self._ahead[caller])]
