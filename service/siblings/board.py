"""The state of each process behind one port: it writes its own several times a second, and the others read it."""

from typing import NamedTuple

from service.siblings.shared_memory import SharedMemory

SILENT_SECONDS = 5.0  # after this time the last state of a process is out of date


class Vitals(NamedTuple):
    """The state of a process, in numbers.

    beat: when it wrote this, by `time.monotonic`; 0 if there is no process, or it loads its model.
    stalled: whether it has made no step for too long.
    still: the seconds since its last step.
    """

    beat: float
    stalled: float
    still: float
    running: float
    waiting: float
    failures: float
    queries: float
    hits: float
    cached_tokens: float
    evictions: float
    entries: float
    cache_bytes: float
    model_bytes: float


class Board:
    """The vitals of all processes. `own` is the number of this process, set after the fork."""

    def __init__(self, processes: int) -> None:
        self.own = 0
        self._processes = processes
        self._numbers = SharedMemory(processes * len(Vitals._fields)).numbers

    def write(self, vitals: Vitals) -> None:
        """Write the state of this process."""
        self._write(self.own, vitals)

    def of(self, process: int) -> Vitals:
        """The last state that a process wrote."""
        begin = process * len(Vitals._fields)
        return Vitals(*self._numbers[begin : begin + len(Vitals._fields)])

    def others(self, now: float) -> list[Vitals]:
        """The states of the other processes, if they serve and their state is known."""
        found = [self.of(process) for process in range(self._processes) if process != self.own]
        return [one for one in found if one.beat and now - one.beat < SILENT_SECONDS]

    def forget(self, process: int) -> None:
        """Clear the state of a process that has died."""
        self._write(process, Vitals(*[0.0] * len(Vitals._fields)))

    def _write(self, process: int, vitals: Vitals) -> None:
        for at, number in enumerate(vitals, process * len(Vitals._fields)):
            self._numbers[at] = number
