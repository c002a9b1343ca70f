"""Which rows run and which wait: first come, first served, in as many places as there are."""

from collections import deque
from collections.abc import Collection
from typing import Generic, TypeVar

from model.errors import ParameterError
from service.errors import QueueFull

Row = TypeVar("Row")


class Scheduler(Generic[Row]):
    """Places for rows, and a queue for those that find none free.

    max_rows: places; max_waiting: rows that may wait beyond those that find a place at once.
    A row is anything hashable; the scheduler keeps no clock, starts no thread, and looks into no row.
    """

    def __init__(self, max_rows: int, max_waiting: int) -> None:
        self.max_rows = max_rows
        self.max_waiting = max_waiting
        self.waiting: deque[Row] = deque()
        self.running: list[Row] = []

    def add(self, rows: Collection[Row]) -> None:
        """Let the rows of one request wait for a place, all or none.

        Raises QueueFull when they do not fit now, ParameterError when they never will.
        """
        most = self.max_rows + self.max_waiting
        if len(rows) > most:
            raise ParameterError("n", f"n is {len(rows)}; this server holds {most} texts at once, ask for fewer.")
        if len(self.running) + len(self.waiting) + len(rows) > most:
            raise QueueFull(
                f"{len(self.running)} texts are being generated and {len(self.waiting)} wait, "
                "which is all this server holds; try again in a moment."
            )
        self.waiting.extend(rows)

    def admit(self) -> list[Row]:
        """Move the longest waiting rows into free places; every row that runs now, newcomers last."""
        while self.waiting and len(self.running) < self.max_rows:
            self.running.append(self.waiting.popleft())
        return self.running

    def remove(self, rows: Collection[Row]) -> None:
        """Take rows out, finished or cancelled, wherever they are; one that has left already is no matter."""
        leaving = set(rows)
        self.running = [row for row in self.running if row not in leaving]
        if not leaving.isdisjoint(self.waiting):
            self.waiting = deque(row for row in self.waiting if row not in leaving)
