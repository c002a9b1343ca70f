"""Logs: a line of text or a JSON object for each message, safe for any content, written without blocking."""

import contextlib
import json
import logging
import os
import sys
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from queue import Full, Queue
from typing import Any

from service.request_context import REQUEST_ID
from service.settings import Settings

QUEUED = 2_000  # lines that may wait to be written; more are dropped and counted, so that a full disk blocks nothing
LONGEST = 8_192  # characters of a message, and of the end of a traceback
TOGETHER_SECONDS = 0.01  # for which lines wait for others once one is written: waking a thread for each takes time
FLUSH_SECONDS = 1.0  # to write what waits when the program ends


class JsonFormatter(logging.Formatter):
    """A JSON object on one line: time (RFC 3339, UTC, milliseconds), level, logger, message, and if
    there are any, request_id, exception and the record's own `fields`. All ASCII, so no character can end the line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line break."""
        line: dict[str, Any] = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:LONGEST],
        }
        if (name := REQUEST_ID.get()) is not None:
            line["request_id"] = name
        line.update(getattr(record, "fields", {}))
        if trace := _trace(self, record):
            line["exception"] = trace
        return json.dumps(line, default=str).replace("\x7f", "\\u007f")


class TextFormatter(logging.Formatter):
    """A readable line. A traceback follows on indented lines, so that none of them looks like a message. Characters
    that cannot be printed are written as escape sequences."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines, without the last line break."""
        head = f"{timestamp(record.created)} {record.levelname} {record.name}: "
        name = REQUEST_ID.get()
        line = head + printable(record.getMessage()[:LONGEST]) + ("" if name is None else f" [{name}]")
        trace = [f"    {printable(one)}" for one in _trace(self, record).split("\n") if one]
        return "\n".join([line, *trace])


def timestamp(seconds: float) -> str:
    """Seconds since 1970 in RFC 3339, in UTC with milliseconds."""
    whole = int(seconds // 1)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def printable(text: str) -> str:
    """The text as one line that is safe for a terminal: control characters, line separators, characters that change
    the direction of text, and lone surrogates become \\x1b, \\u2028 and so on."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback of a message, if it has one."""
    return formatter.formatException(record.exc_info)[-LONGEST:] if record.exc_info else ""


class LogHandler(logging.Handler):
    """Writes lines to a file descriptor from a separate thread, so that logging never waits.

    A line that cannot be written, for example on a full disk or into a pipe that nobody reads, is lost and counted in
    `failures`.
    """

    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._dropped = 0  # counted where lines are formatted, under the handler's lock
        self._unwritten = 0  # counted by the thread that writes
        self._torn = False  # whether the last line was written in part
        self._lines: Queue[bytes | None] = Queue(QUEUED)
        try:
            # A copy: if the given descriptor were closed, the next connection would get its number, and the log.
            self._descriptor = os.dup(descriptor)
        except OSError:
            self._descriptor = -1  # every line will count as lost
        self._hurry = threading.Event()  # set where lines are to be written at once
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def failures(self) -> int:
        """Lines that were lost."""
        return self._dropped + self._unwritten

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a message to be written."""
        try:
            self._lines.put_nowait(self.format(record).encode("utf-8", "backslashreplace") + b"\n")
        except Exception:  # a message that cannot be formatted must not end the code that logs it
            self._dropped += 1

    def flush(self) -> None:
        """Wait a limited time until everything is written."""
        self._hurry.set()
        deadline = time.monotonic() + FLUSH_SECONDS
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.001)
        self._hurry.clear()

    def close(self) -> None:
        """Write all waiting lines, and end the thread."""
        self.flush()
        self._hurry.set()
        if self._thread.is_alive():
            with contextlib.suppress(Full):
                self._lines.put_nowait(None)
        super().close()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            if not self._write(line):
                self._unwritten += 1
            self._lines.task_done()
            if self._lines.empty():
                self._hurry.wait(TOGETHER_SECONDS)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._lines.task_done()

    def _write(self, line: bytes) -> bool:
        """Write a line, and return whether that worked. It begins a new line after a line that was written only in
        part."""
        left = memoryview(b"\n" + line if self._torn else line)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
                self._torn = bool(left)
        except OSError:
            return False
        return True


class AtOnce(logging.StreamHandler[Any]):
    """Writes lines in the thread that logs them, so that the process can be forked."""


def configure(settings: Settings, at_once: bool = False) -> logging.Handler:
    """Send everything that this process logs, with Uvicorn's messages and Python's warnings, to standard error in the
    format of the settings; replaces the handler of an earlier call.

    at_once: write lines in the thread that logs them: for a process that only starts others, and logs little.
    """
    root = logging.getLogger()
    # No format shows the place or thread of a message: looking that up takes as long as all the rest.
    logging._srcfile = None  # as the documentation of Python has it, "Optimization"
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for earlier in list(root.handlers):
        if isinstance(earlier, (LogHandler, AtOnce)):
            root.removeHandler(earlier)
            earlier.close()
    formatter = JsonFormatter() if settings.log_format == "json" else TextFormatter()
    handler: logging.Handler
    if at_once:
        handler = AtOnce(sys.__stderr__)
        handler.setFormatter(formatter)
    else:
        handler = LogHandler(sys.__stderr__.fileno() if sys.__stderr__ else 2, formatter)
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    logging.captureWarnings(True)
    return handler


def failures() -> int:
    """Lines of this process's log that were lost."""
    return sum(one.failures for one in logging.getLogger().handlers if isinstance(one, LogHandler))
