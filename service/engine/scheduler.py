"""Gives free slots to waiting texts, first come, first served, on every worker thread."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from model.errors import ParameterError
from service.errors import QueueFull


class Row:
    """One text as the scheduler sees it.

    worker, slot: the thread that generates it and its slot there, once it has one.
    """

    __slots__ = ("slot", "worker")

    def __init__(self) -> None:
        self.worker = -1
        self.slot = -1


AnyRow = TypeVar("AnyRow", bound=Row)
Group = TypeVar("Group")  # what rows belong to: anything hashable


class Changes(NamedTuple, Generic[AnyRow]):
    """Rows that leave their slots, and rows that then join in free slots."""

    leaving: list[AnyRow]
    joining: list[AnyRow]


@dataclass(slots=True)
class _WorkerSlots(Generic[AnyRow]):
    """The slots of one thread."""

    free: list[int]
    running: int = 0
    leaving: list[AnyRow] = field(default_factory=list)
    joining: list[AnyRow] = field(default_factory=list)


@dataclass(slots=True)
class _Held(Generic[AnyRow]):
    """A group until its last text has ended.

    alive: its texts that have not ended; latent: those of them that wait until the first has read the prompt.
    """

    deadline: float
    alive: list[AnyRow]
    latent: list[AnyRow]


class Scheduler(Generic[Group, AnyRow]):
    """Slots for rows on one or several workers, and a queue for rows that wait for a free slot.

    slots: how many each worker has. max_waiting: texts that may wait beyond those that find a slot at once.
    timeout: seconds after which a group that has not ended expires.

    A group enters with its first row alone, which reads the prompt. The other rows follow once it is read, before all
    groups that came later. A worker applies changes between two turns, so a row that leaves during a turn is decoded
    until the turn ends, and what it draws is dropped.
    """

    def __init__(self, slots: Sequence[int], max_waiting: int, timeout: float = float("inf")) -> None:
        self._workers: list[_WorkerSlots[AnyRow]] = [_WorkerSlots(list(range(count))[::-1]) for count in slots]
        self._most = sum(slots) + max_waiting
        self._timeout = timeout
        self._queue: OrderedDict[AnyRow, None] = OrderedDict()
        self._held: dict[Group, _Held[AnyRow]] = {}  # in order of arrival, and so of deadline
        self._texts = 0

    @property
    def running(self) -> int:
        """Rows that have a slot."""
        return sum(worker.running for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Rows that have no slot yet, also those that wait until another row has read their prompt."""
        return self._texts - self.running

    def add(self, groups: Mapping[Group, Sequence[AnyRow]], now: float) -> None:
        """Take in the rows of some groups, all or none.

        Raises QueueFull if they do not fit now, ParameterError if they never will.
        """
        texts = sum(map(len, groups.values()))
        if texts > self._most:
            message = f"These are {texts:,} texts; this server holds {self._most:,} at once, ask for fewer."
            raise ParameterError("n" if len(groups) == 1 else "prompt", message)
        if self._texts + texts > self._most:
            raise QueueFull(
                f"{self.running} texts are being generated and {self.waiting} wait, "
                "which is all this server holds; try again in a moment."
            )
        for group, rows in groups.items():
            self._held[group] = _Held(now + self._timeout, list(rows), list(rows[1:]))
            self._queue[rows[0]] = None
        self._texts += texts
        self._admit()

    def fork(self, group: Group) -> None:
        """The prompt of a group is read: its other rows are the next to get a slot."""
        held = self._held.get(group)
        if held is None:
            return
        for row in reversed(held.latent):
            self._queue[row] = None
            self._queue.move_to_end(row, last=False)
        held.latent = []
        self._admit()

    def finish(self, group: Group, row: AnyRow) -> None:
        """A text has ended; its slot is free. A text that has left already is ignored."""
        held = self._held.get(group)
        if held is None or row not in held.alive:
            return
        held.alive.remove(row)
        if not held.alive:
            del self._held[group]
        self._leave(row)
        self._admit()

    def drop(self, group: Group) -> None:
        """Take out the texts of a group that have not ended; a group that has left already is ignored."""
        held = self._held.pop(group, None)
        if held is not None:
            for row in held.alive:
                self._leave(row)
            self._admit()

    def expire(self, now: float) -> list[Group]:
        """Take out the groups whose time is over, and return them."""
        expired: list[Group] = []
        for group, held in self._held.items():
            if held.deadline > now:
                break
            expired.append(group)
        for group in expired:
            self.drop(group)
        return expired

    def changes(self, worker: int) -> Changes[AnyRow]:
        """What has changed on a worker since the last call."""
        own = self._workers[worker]
        changes = Changes(own.leaving, own.joining)
        own.leaving, own.joining = [], []  # new lists even where they are empty: those given away are another thread's
        return changes

    def _leave(self, row: AnyRow) -> None:
        self._texts -= 1
        if row.worker < 0:
            self._queue.pop(row, None)  # a latent row is not in it yet
            return
        worker = self._workers[row.worker]
        if row in worker.joining:
            worker.joining.remove(row)
        else:
            worker.leaving.append(row)
        worker.running -= 1
        worker.free.append(row.slot)

    def _admit(self) -> None:
        """Give free slots to the rows that have waited longest, on the worker with the fewest rows."""
        while self._queue:
            open_ = [(worker.running, at) for at, worker in enumerate(self._workers) if worker.free]
            if not open_:
                return
            _, at = min(open_)
            worker = self._workers[at]
            row, _ = self._queue.popitem(last=False)
            row.worker, row.slot = at, worker.free.pop()
            worker.running += 1
            worker.joining.append(row)
