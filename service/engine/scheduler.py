"""Which texts have a place and which wait: first come, first served, on every thread that generates."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from model.errors import ParameterError
from service.errors import QueueFull


class Row:
    """One text as the scheduler sees it.

    lane, place: the thread that generates it and its place there, once it has one.
    """

    __slots__ = ("lane", "place")

    def __init__(self) -> None:
        self.lane = -1
        self.place = -1


AnyRow = TypeVar("AnyRow", bound=Row)
Group = TypeVar("Group")  # the request that rows belong to: anything hashable


class Changes(NamedTuple, Generic[AnyRow]):
    """Whose places a thread takes back, and then who begins in which."""

    leaving: list[AnyRow]
    joining: list[AnyRow]


@dataclass(slots=True)
class _Lane(Generic[AnyRow]):
    """The places of one thread."""

    free: list[int]
    running: int = 0
    leaving: list[AnyRow] = field(default_factory=list)
    joining: list[AnyRow] = field(default_factory=list)


@dataclass(slots=True)
class _Held(Generic[AnyRow]):
    """A request until its last text has ended.

    alive: its texts that have not ended; latent: those of them that wait for the first to have read the prompt.
    """

    deadline: float
    alive: list[AnyRow]
    latent: list[AnyRow]


class Scheduler(Generic[Group, AnyRow]):
    """Places for rows on one or several lanes, and a queue for those that find none free.

    places: how many each lane has. max_waiting: texts that may wait beyond those that find a place at once.
    patience: seconds after which a request that has not ended is given up.

    A request enters as its first row alone, which reads the prompt; the others follow once it is read, before
    everyone who came later. A lane takes up its changes between two turns, so a row that leaves in the middle of
    one is written to until its end, and nobody else is given what it writes.
    """

    def __init__(self, places: Sequence[int], max_waiting: int, patience: float = float("inf")) -> None:
        self._lanes: list[_Lane[AnyRow]] = [_Lane(list(range(count))[::-1]) for count in places]
        self._most = sum(places) + max_waiting
        self._patience = patience
        self._queue: OrderedDict[AnyRow, None] = OrderedDict()
        self._held: dict[Group, _Held[AnyRow]] = {}  # in the order they came, which is that of their deadlines
        self._texts = 0

    @property
    def running(self) -> int:
        """Rows that have a place."""
        return sum(lane.running for lane in self._lanes)

    @property
    def waiting(self) -> int:
        """Rows that have none yet, also those whose prompt is being read by another."""
        return self._texts - self.running

    def add(self, groups: Mapping[Group, Sequence[AnyRow]], now: float) -> None:
        """Take in the rows of some requests, all or none.

        Raises QueueFull when they do not fit now, ParameterError when they never will.
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
            self._held[group] = _Held(now + self._patience, list(rows), list(rows[1:]))
            self._queue[rows[0]] = None
        self._texts += texts
        self._admit()

    def spread(self, group: Group) -> None:
        """The prompt of a request is read: its other rows are the next to find a place."""
        held = self._held.get(group)
        if held is None:
            return
        for row in reversed(held.latent):
            self._queue[row] = None
            self._queue.move_to_end(row, last=False)
        held.latent = []
        self._admit()

    def finish(self, group: Group, row: AnyRow) -> None:
        """A text has ended; its place is free. One that has left already is no matter."""
        held = self._held.get(group)
        if held is None or row not in held.alive:
            return
        held.alive.remove(row)
        if not held.alive:
            del self._held[group]
        self._leave(row)
        self._admit()

    def drop(self, group: Group) -> None:
        """Take out whatever of a request has not ended, wherever it is; one that has left already is no matter."""
        held = self._held.pop(group, None)
        if held is not None:
            for row in held.alive:
                self._leave(row)
            self._admit()

    def expire(self, now: float) -> list[Group]:
        """Take out the requests whose time is over."""
        expired: list[Group] = []
        for group, held in self._held.items():
            if held.deadline > now:
                break
            expired.append(group)
        for group in expired:
            self.drop(group)
        return expired

    def changes(self, lane: int) -> Changes[AnyRow]:
        """What has changed on a lane since the last call."""
        own = self._lanes[lane]
        changes = Changes(own.leaving, own.joining)
        own.leaving, own.joining = [], []  # new lists even where they are empty: those given away are another thread's
        return changes

    def _leave(self, row: AnyRow) -> None:
        self._texts -= 1
        if row.lane < 0:
            self._queue.pop(row, None)  # a latent row is not in it yet
            return
        lane = self._lanes[row.lane]
        if row in lane.joining:
            lane.joining.remove(row)
        else:
            lane.leaving.append(row)
        lane.running -= 1
        lane.free.append(row.place)

    def _admit(self) -> None:
        """Give free places to those who wait longest, on the lane with the fewest rows."""
        while self._queue:
            open_ = [(lane.running, at) for at, lane in enumerate(self._lanes) if lane.free]
            if not open_:
                return
            _, at = min(open_)
            lane = self._lanes[at]
            row, _ = self._queue.popitem(last=False)
            row.lane, row.place = at, lane.free.pop()
            lane.running += 1
            lane.joining.append(row)
