"""How much of this machine's processor others take, as /proc tells it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")  # of /proc/stat, proc_stat(5)
WORTH_TELLING = 0.2  # cores


@dataclass(frozen=True)
class ProcessorLoad:
    """Means over a time, in cores: what other processes took, and what the host of a virtual machine did.

    cores: how many there are. average: processes that ran or waited to, over the last minute.
    """

    others: float
    stolen: float
    cores: int
    average: float

    def in_words(self, past: bool = False) -> str:
        """What of it slows a run down, or did, in a sentence."""
        average = f"load average {self.average:.1f}"
        if self.others >= WORTH_TELLING:
            verb = "took" if past else "take"
            return f"Other processes {verb} {self.others:.1f} of {self.cores} cores ({average})."
        if self.stolen >= WORTH_TELLING:
            verb = "kept" if past else "keeps"
            return f"The host of this virtual machine {verb} {self.stolen:.1f} of its {self.cores} cores ({average})."
        explains, be = ("explained", "have been") if past else ("explains", "be")
        throttled = f"the processor may {be} throttled by heat or by a limit"
        return f"No other process here {explains} it ({average}); {throttled}."


class LoadMeter:
    """Measures the load from when it is made."""

    def __init__(self) -> None:
        self._began, self._at_start, self._own = time.monotonic(), _counters(), _own_seconds()

    def read(self) -> ProcessorLoad | None:
        """The load since then; None where the system does not tell."""
        now, seconds = _counters(), time.monotonic() - self._began
        if now is None or self._at_start is None or seconds <= 0:
            return None
        spent = {name: (now[name] - self._at_start[name]) / seconds for name in FIELDS}
        worked = sum(spent[name] for name in ("user", "nice", "system", "irq", "softirq"))
        others = max(0.0, worked - (_own_seconds() - self._own) / seconds)
        return ProcessorLoad(others, spent["steal"], os.cpu_count() or 1, os.getloadavg()[0])


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _counters() -> dict[str, float] | None:
    """Seconds that all cores together spent in each way since the machine started."""
    try:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        tick = os.sysconf("SC_CLK_TCK")
        return {name: int(word) / tick for name, word in zip(FIELDS, words[: len(FIELDS)], strict=True)}
    except (OSError, ValueError):
        return None
