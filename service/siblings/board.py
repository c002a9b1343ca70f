"""How each process behind one port is, written down by it several times a second and read by the others."""

from typing import NamedTuple

from service.siblings.shared_memory import SharedMemory

SILENT_SECONDS = 5.0  # after which what a process wrote tells nothing of it any more


class Vitals(NamedTuple):
    """How a process is; all of it numbers.

    beat: when it wrote this, by `time.monotonic`; 0 where there is no process, or it loads its model.
    stalled: whether it has made no step for too long. still: for how many seconds.
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
    """The vitals of all processes. `own` is the number of this one, set where it is forked."""

    def __init__(self, processes: int) -> None:
        self.own = 0
        self._processes = processes
        self._numbers = SharedMemory(processes * len(Vitals._fields)).numbers

    def write(self, vitals: Vitals) -> None:
        """Write down how this process is."""
        self._write(self.own, vitals)

    def of(self, process: int) -> Vitals:
        """What a process last wrote down."""
        begin = process * len(Vitals._fields)
        return Vitals(*self._numbers[begin : begin + len(Vitals._fields)])

    def others(self, now: float) -> list[Vitals]:
        """How the other processes are, those that serve and of which anything is known."""
        found = [self.of(process) for process in range(self._processes) if process != self.own]
        return [one for one in found if one.beat and now - one.beat < SILENT_SECONDS]

    def forget(self, process: int) -> None:
        """A process is dead."""
        self._write(process, Vitals(*[0.0] * len(Vitals._fields)))

    def _write(self, process: int, vitals: Vitals) -> None:
        for at, number in enumerate(vitals, process * len(Vitals._fields)):
            self._numbers[at] = number
