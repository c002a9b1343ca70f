"""Gives free slots of all worker threads to waiting texts: callers take turns; each caller's texts come in order."""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, NamedTuple, TypeVar

from model.errors import ParameterError
from service.errors import QueueFull

NOBODY = object()  # stands for no caller, as None is a caller
CLEARED = 64  # deadlines of ended groups that may stay, in addition to as many as there are of others
SHARE = 8  # an eighth of the slots and of the queue is reserved for callers with few texts


class Row:
    """One text for the scheduler, or a search that takes the slots of several texts.

    width: the number of slots it takes. worker, slots: the thread that generates it and its slots there, once it has
    them;
    slot: the first slot. gone: whether that thread has dropped it. caller: the client it is for.
    """

    __slots__ = ("caller", "gone", "slot", "slots", "width", "worker")

    def __init__(self, width: int = 1) -> None:
        self.caller: Hashable = None
        self.width = width
        self.worker = -1
        self.slot = -1
        self.gone = False
        self.slots: Sequence[int] = ()


AnyRow = TypeVar("AnyRow", bound=Row)
Group = TypeVar("Group")  # the group of a row: anything hashable


class Changes(NamedTuple, Generic[AnyRow]):
    """Rows that leave their slots, and rows that then enter free slots."""

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

    number: of its deadline.
    alive: its texts that have not ended; latent: the texts that wait until the first has read the prompt.
    """

    number: int
    alive: list[AnyRow]
    latent: list[AnyRow]


class _Waiting(Generic[AnyRow]):
    """Rows without a slot, in order for each caller; callers take turns."""

    def __init__(self) -> None:
        self._turns: OrderedDict[Hashable, OrderedDict[AnyRow, None]] = OrderedDict()
        self._running: Counter[Hashable] = Counter()  # slots that rows of each caller have

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, row: AnyRow, first: bool = False) -> None:
        """Put a row behind the other rows of its caller, or before them."""
        own = self._turns.setdefault(row.caller, OrderedDict())
        own[row] = None
        if first:
            own.move_to_end(row, last=False)

    def remove(self, row: AnyRow) -> None:
        """Remove a row; a row that does not wait is ignored."""
        if (own := self._turns.get(row.caller)) is not None:
            own.pop(row, None)
            if not own:
                del self._turns[row.caller]

    def take(self, below: int | None, widest: int) -> AnyRow | None:
        """The next row, which runs from now on, of a caller with fewer than `below` slots; None = of any caller.

        Returns None also if the next row takes more than `widest` slots: the others wait until there is room for it.
        """
        free = (one for one in self._turns if below is None or self._running[one] < below)
        caller = next(free, NOBODY)
        if caller is NOBODY or next(iter(self._turns[caller])).width > widest:
            return None
        own = self._turns.pop(caller)
        row, _ = own.popitem(last=False)
        if own:
            self._turns[caller] = own  # to the end of the order
        self._running[caller] += row.width
        return row

    def running(self, caller: Hashable) -> int:
        """The number of slots that the rows of a caller have."""
        return self._running[caller]

    def end(self, row: AnyRow) -> None:
        """Count a row that has stopped running."""
        self._running[row.caller] -= row.width
        if not self._running[row.caller]:
            del self._running[row.caller]


class Scheduler(Generic[Group, AnyRow]):
    """Slots for rows on one or several workers, and a queue for rows that wait for a free slot.

    slots: the number of slots of each worker. max_waiting: the texts that may wait in addition to those with a slot.
    spare: the number of slots that are reserved for callers with few running texts.

    Callers take turns at free slots; the texts of one caller are taken in order. If only spare slots are free, or
    only the last eighth of the queue, a caller may have as many as are then left for others. So one caller cannot
    keep all others out, and a new caller with one text finds room.

    A group enters with only its first row, which reads the prompt. The other rows follow once it is read, before all
    later groups of its caller. A worker applies changes between two turns. A row that leaves during a turn is decoded
    until the turn ends, and the ids that it draws are dropped.
    """

    def __init__(self, slots: Sequence[int], max_waiting: int, spare: int = 0) -> None:
        self._workers: list[_WorkerSlots[AnyRow]] = [_WorkerSlots(list(range(count))[::-1]) for count in slots]
        self._slots, self._spare, self._widest = sum(slots), spare, max(slots)
        self._most = self._slots - spare + max_waiting
        self._queue: _Waiting[AnyRow] = _Waiting()
        self._held: dict[Group, _Held[AnyRow]] = {}
        self._deadlines: list[tuple[float, int]] = []  # a heap of deadlines and numbers, also of ended groups
        self._numbered: dict[int, Group] = {}  # groups that have not ended and have a deadline
        self._numbers = count()
        self._texts: Counter[Hashable] = Counter()  # of each caller
        self._total = 0

    @property
    def running(self) -> int:
        """The number of slots that rows have."""
        return sum(worker.running for worker in self._workers)

    @property
    def waiting(self) -> int:
        """The number of slots that waiting rows will take, including rows that wait until another has read their
        prompt."""
        return self._total - self.running

    def has_others(self, caller: Hashable) -> bool:
        """Whether any other caller has texts, running or waiting."""
        return len(self._texts) > (caller in self._texts)

    def waits(self, caller: Hashable) -> int:
        """The number of slots that a caller's waiting texts will take. Without the lock only a hint."""
        return self._texts.get(caller, 0) - self._queue.running(caller)

    def crowd(self, caller: Hashable) -> int:
        """The number of slots of a caller while others have texts, too; 0 while it is alone. Without the lock only a
        hint."""
        return self._queue.running(caller) if self.has_others(caller) else 0

    def check(self, texts: int, groups: int, caller: Hashable = None, width: int = 1) -> None:
        """Raise the error of `add` for this many texts and groups, with rows of at most `width` slots."""
        if width > self._widest:
            message = (
                f"A search with {width:,} beams needs as many slots of one thread; this server has {self._widest:,}."
            )
            raise ParameterError("best_of", f"{message} Search with fewer.")
        if texts > self._most:
            message = f"These are {texts:,} texts, but this server holds {self._most:,} at once; ask for fewer."
            raise ParameterError("n" if groups == 1 else "prompt", message)
        left = self._most - self._total - texts
        if left < 0 and self._texts[caller] + texts > left + self._most // SHARE:
            raise QueueFull(
                f"{self.running} texts are being generated and {self.waiting} wait, "
                "which is the most this server holds; try again in a moment."
            )

    def add(
        self, groups: Mapping[Group, Sequence[AnyRow]], deadline: float = float("inf"), caller: Hashable = None
    ) -> None:
        """Add the rows of some groups of a caller, all or none; they expire at the deadline.

        Raises QueueFull if they do not fit now, ParameterError if they never will.
        """
        widths = [row.width for rows in groups.values() for row in rows]
        texts = sum(widths)
        self.check(texts, len(groups), caller, max(widths, default=1))
        for group, rows in groups.items():
            for row in rows:
                row.caller = caller
            number = next(self._numbers)
            self._held[group] = _Held(number, list(rows), list(rows[1:]))
            if deadline < float("inf"):
                self._numbered[number] = group
                heappush(self._deadlines, (deadline, number))
            self._queue.add(rows[0])
        self._texts[caller] += texts
        self._total += texts
        if len(self._deadlines) > 2 * len(self._numbered) + CLEARED:
            self._deadlines = [one for one in self._deadlines if one[1] in self._numbered]
            heapify(self._deadlines)
        self._admit()

    def fork(self, group: Group) -> None:
        """The prompt of a group is read: its other rows get slots next."""
        held = self._held.get(group)
        if held is None:
            return
        for row in reversed(held.latent):
            self._queue.add(row, first=True)
        held.latent = []
        self._admit()

    def finish(self, group: Group, row: AnyRow) -> None:
        """A text has ended; its slot is free. A text that has already left is ignored."""
        held = self._held.get(group)
        if held is None or row not in held.alive:
            return
        held.alive.remove(row)
        if not held.alive:
            del self._held[group]
            self._numbered.pop(held.number, None)
        self._leave(row)
        self._admit()

    def drop(self, group: Group) -> None:
        """Remove the texts of a group that have not ended; a group that has already left is ignored."""
        held = self._held.pop(group, None)
        if held is not None:
            self._numbered.pop(held.number, None)
            for row in held.alive:
                self._leave(row)
            self._admit()

    def expire(self, now: float) -> list[Group]:
        """Remove the groups whose time is over, and return them."""
        expired: list[Group] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heappop(self._deadlines)
            if (group := self._numbered.get(number)) is not None:
                expired.append(group)
                self.drop(group)
        return expired

    def changes(self, worker: int) -> Changes[AnyRow]:
        """The changes on a worker since the last call."""
        own = self._workers[worker]
        changes = Changes(own.leaving, own.joining)
        own.leaving, own.joining = [], []  # new lists even if these are empty: another thread owns what is returned
        return changes

    def _leave(self, row: AnyRow) -> None:
        self._total -= row.width
        self._texts[row.caller] -= row.width
        if not self._texts[row.caller]:
            del self._texts[row.caller]
        if row.worker < 0:
            self._queue.remove(row)  # a latent row is not in it yet
            return
        worker = self._workers[row.worker]
        if row in worker.joining:
            worker.joining.remove(row)
            row.gone = True
        else:
            worker.leaving.append(row)
        worker.running -= row.width
        worker.free += row.slots
        self._queue.end(row)

    def _admit(self) -> None:
        """Give free slots to rows that wait, on the worker with the fewest rows."""
        while self._queue:
            left = self._slots - self.running
            if not left:
                return
            widest = max(len(worker.free) for worker in self._workers)
            row = self._queue.take(None if left > self._spare else left, widest)
            if row is None:
                return
            width = row.width
            _, at = min((worker.running, at) for at, worker in enumerate(self._workers) if len(worker.free) >= width)
            worker = self._workers[at]
            row.worker, row.slots = at, [worker.free.pop() for _ in range(width)]
            row.slot = row.slots[0]
            worker.running += width
            worker.joining.append(row)
