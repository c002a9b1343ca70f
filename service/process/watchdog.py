"""A thread that ends the process when the event loop hangs, or when something indispensable is lost."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable

LOOK_SECONDS = 0.5
EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h
SILENT = b"CRITICAL The event loop has made no pass for too long; the process ends, to be started anew.\n"
LOST = b"CRITICAL A thread that generates text is gone; the process ends, to be started anew.\n"
SPENT = (
    b"CRITICAL The process has used up its own limit of memory (ulimit -v), though no request holds any; it ends, "
    b"to be started anew. Raise the limit.\n"
)
LOST_LOOKS = 20  # checks in a row before the process is ended: a server that stops by itself has stopped by then


class Watchdog:
    """Watches a process from a thread that needs neither the event loop, nor the log, nor much memory.

    seconds: that may pass without a call of `beat`. lost: a message if something else is lost for good, or None.
    end: called with the message; never returns.

    Time is counted in checks, so a process that was suspended (SIGSTOP, a sleeping machine) is not ended for it.
    """

    def __init__(
        self,
        seconds: float,
        lost: Callable[[], bytes | None] = lambda: None,
        end: Callable[[bytes], None] | None = None,
    ) -> None:
        self._most = max(1, round(seconds / LOOK_SECONDS))
        self._lost = lost
        self._end = end or end_process
        self._beats = 0
        self._seen = 0
        self._silent = 0
        self._gone = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def beat(self) -> None:
        """Show that the event loop runs."""
        self._beats += 1

    def look(self) -> None:
        """Compare with the last check, and end the process if it is silent."""
        if self._beats == self._seen:
            self._silent += 1
        else:
            self._seen, self._silent = self._beats, 0
        lost = self._lost()
        self._gone = 0 if lost is None else self._gone + 1
        if self._silent >= self._most:
            self._end(SILENT)
        elif lost is not None and self._gone >= LOST_LOOKS:
            self._end(lost)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                time.sleep(LOOK_SECONDS)
                if not self._stopped.is_set():
                    self.look()
            except MemoryError:  # in this check; the next may have memory
                continue


def end_process(words: bytes) -> None:
    """Write the reason and all threads' stack traces to standard error, and end at once with a status other than
    0."""
    try:
        os.write(2, words)
        faulthandler.dump_traceback(2)
    except (OSError, RuntimeError, ValueError, MemoryError):
        pass
    os._exit(EXIT_STATUS)
