"""The parent of several processes behind one port: starts them, starts anew what died, and passes signals on."""

import logging
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from model.errors import UnrollError
from service.errors import EngineStopped, SettingsError
from service.monitoring import whole_metrics
from service.monitoring.health import HOPELESS
from service.settings import Settings
from service.siblings.siblings import Siblings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  # between two looks at how the processes are
STEADY_SECONDS = 10.0  # a process that has served for so long is started anew at once
LONGEST_PAUSE = 30.0  # seconds before one that ends again and again is
EXTRA_SECONDS = 5.0  # beyond the grace, until a process that has not ended is killed
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PASSED_ON = {signal.SIGHUP: signal.SIGHUP}

Serve = Callable[[int, bool], None]
"""Serves in a process that was just forked. It gets a pipe that ends with the parent, and whether it is the first of
all. Raises what a process that serves alone does."""


@dataclass
class Child:
    """A process that serves. since: when it was started. beat, silent: its last sign of life, and looks without one."""

    pid: int
    since: float
    beat: float = 0.0
    silent: int = 0


class Parent:
    """Keeps `siblings.processes` processes alive until a signal says to stop. It has no thread of its own and no event
    loop, and holds no model: so it can be forked at any time, and nothing that a client sends reaches it.

    serve: what each process does.
    """

    def __init__(self, siblings: Siblings, settings: Settings, serve: Serve) -> None:
        self._siblings = siblings
        self._settings = settings
        self._serve = serve
        self._children: dict[int, Child] = {}
        self._due: dict[int, float] = {}  # when processes that ended are started anew
        self._failures = [0] * siblings.processes  # in a row, of each process
        self._served = False  # whether any process ever has
        self._heard: list[int] = []
        self._stopping: float | None = None  # since when
        self._life, self._alive = os.pipe()
        self._woken, self._wake = os.pipe()

    def run(self) -> None:
        """Return once all processes have ended after a signal.

        Raises EngineStopped where none of them could serve, and SettingsError where no process can be made.
        """
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in (*STOPS, *PASSED_ON, signal.SIGCHLD):
            signal.signal(number, self._hear)
        try:
            for process in range(self._siblings.processes):
                self._start(process)
            while self._children or (self._due and self._stopping is None):
                self._turn()
        finally:
            for child in self._children.values():
                _send(child.pid, signal.SIGKILL)
        if not self._served and self._stopping is None:
            raise EngineStopped("No process of the server could serve; the log says why.")

    def _turn(self) -> None:
        with suppress(InterruptedError):
            select.select([self._woken], [], [], LOOK_SECONDS)
        with suppress(BlockingIOError):
            os.read(self._woken, 4096)
        while self._heard:
            self._handle(self._heard.pop(0))
        self._reap()
        for process, child in self._children.items():
            self._look(process, child)
        now = time.monotonic()
        for process in [one for one, due in self._due.items() if due <= now and self._stopping is None]:
            del self._due[process]
            self._start(process)

    def _reap(self) -> None:
        """Note which processes have ended; also those that a dead one left, which are a container's first process's."""
        processes = {child.pid: process for process, child in self._children.items()}
        with suppress(ChildProcessError):  # there is none
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] in processes:
                    self._ended(processes[ended[0]], os.waitstatus_to_exitcode(ended[1]))

    def _hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._heard.append(number)

    def _handle(self, number: int) -> None:
        """Do what a signal asks for."""
        if number in PASSED_ON:
            self._tell(PASSED_ON[signal.Signals(number)])
        elif number in STOPS:
            again, self._stopping = self._stopping is not None, self._stopping or time.monotonic()
            self._tell(signal.SIGUSR2 if again else signal.SIGTERM)

    def _tell(self, number: int) -> None:
        for process, child in self._children.items():
            # One that loads its model has nothing to end, and hears SIGTERM only once it has.
            loads = number != signal.SIGHUP and not self._siblings.serves(process)
            _send(child.pid, signal.SIGKILL if loads else number)

    def _start(self, process: int) -> None:
        first = not self._served and not process
        try:
            with warnings.catch_warnings():  # of threads that numpy's library keeps, and ends itself before a fork
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
        except OSError as error:
            if not self._served:
                raise SettingsError(
                    f"The system makes no process for the server ({error.strerror}); raise its limits (ulimit -u), or "
                    "ask for fewer with --processes."
                ) from error
            logger.error("The system makes no process for the server (%s); it will be tried again.", error.strerror)
            self._due[process] = time.monotonic() + LONGEST_PAUSE
            return
        if not pid:
            self._become(process, first)
        self._children[process] = Child(pid, time.monotonic())

    def _become(self, process: int, first: bool) -> None:
        """Be that process until it ends; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*STOPS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for descriptor in (self._alive, self._woken, self._wake):
                os.close(descriptor)
            self._siblings.become(process)
            self._serve(self._life, first)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            logger.critical("A process of the server has ended: %s", error, exc_info=not isinstance(error, UnrollError))
        finally:
            logging.shutdown()
            with suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(status)

    def _look(self, process: int, child: Child) -> None:
        """Kill a process that does not end in time, hangs, or can only be helped by a restart."""
        now, vitals = time.monotonic(), self._siblings.board.of(process)
        if vitals.beat and not self._served:
            self._served = True
        if self._stopping is not None:
            if now - self._stopping > self._settings.grace_seconds + EXTRA_SECONDS:
                _send(child.pid, signal.SIGKILL)
            return
        child.silent = child.silent + 1 if vitals.beat == child.beat else 0
        child.beat = vitals.beat
        most = 2 * self._settings.watchdog_seconds  # its own watchdog ends it before, unless it was stopped
        if vitals.beat and most and child.silent * LOOK_SECONDS > most:
            logger.error("A process of the server, %d, gives no sign of life; it is killed.", child.pid)
            _send(child.pid, signal.SIGKILL)
        elif vitals.still > HOPELESS * self._settings.stall_seconds:
            logger.error("A process of the server, %d, makes no step any more; it is killed.", child.pid)
            _send(child.pid, signal.SIGKILL)

    def _ended(self, process: int, status: int) -> None:
        """Free what a process held, keep what it has counted, and have it started anew."""
        child, served = self._children.pop(process), self._siblings.serves(process)
        self._siblings.snapshots.bury(process, whole_metrics.counted)
        self._siblings.forget(process)
        if self._stopping is not None:
            return
        self._served = self._served or served
        steady = served and time.monotonic() - child.since > STEADY_SECONDS
        self._failures[process] = 0 if steady or not status else self._failures[process] + 1
        if not self._served:  # the others could not either
            self._stop_all()
            return
        pause = min(LONGEST_PAUSE, 2.0 ** (self._failures[process] - 2)) if self._failures[process] > 1 else 0.0
        logger.error(
            "A process of the server, %d, has ended with status %d; another one takes its place%s.",
            child.pid, status, f" in {pause:g} s" if pause else "",
        )  # fmt: skip
        self._due[process] = time.monotonic() + pause

    def _stop_all(self) -> None:
        for child in self._children.values():
            _send(child.pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
