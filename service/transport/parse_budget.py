"""How much of what clients send is parsed in one pass of the event loop, for all connections together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.flow_control import FlowControl

from service.transport.targets import origin_form

PASS_SECONDS = 0.001  # of parsing in a pass, half of them for those who have not waited yet

Parse = Callable[[float], bool]
"""Parses for a number of seconds; returns whether there is more."""


class ParseBudget:
    """Shares the time for parsing among connections: some parse at once, the others queue for the next passes."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._spent = 0.0
        self._queue: deque[Parse] = deque()
        self._going = False  # whether a later pass is asked for

    def take(self, parse: Parse) -> None:
        """Let a connection parse now, if there is time in this pass, and the rest in later ones."""
        if self._spent < PASS_SECONDS:
            self._run(parse, PASS_SECONDS - self._spent)
        else:
            self._queue.append(parse)
        if not self._going:  # asked for after parsing, so that a request begun there has its turn before its body
            self._going = True
            asyncio.get_running_loop().call_soon(self._next)

    def _run(self, parse: Parse, seconds: float) -> None:
        began = self._clock()
        more = parse(seconds)
        self._spent += self._clock() - began
        if more:
            self._queue.append(parse)

    def _next(self) -> None:
        self._spent = 0.0
        waiting = len(self._queue)
        while waiting and self._spent < PASS_SECONDS / 2:
            waiting -= 1
            self._run(self._queue.popleft(), PASS_SECONDS / 2 - self._spent)
        self._going = bool(self._queue)
        if self._going:
            asyncio.get_running_loop().call_soon(self._next)


class Parser(h11.Connection):
    """h11's parser, but it says that it needs more data when its time is over, or a body in chunks begins.

    A chunk of one byte takes as long as one of 60,000, so a read may hold half a second of them. What comes after the
    headers waits, so that a client without a key is refused before any of it is parsed.
    """

    def __init__(self, most_header_bytes: int, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(h11.SERVER, most_header_bytes)
        self.cut = False
        """Whether it stopped although there may be more."""
        self._clock = clock
        self._until = 0.0
        self._chunked = False

    def begin(self, seconds: float) -> None:
        """Parse for `seconds` from now."""
        self.cut = False
        self._until = self._clock() + seconds

    def next_event(self) -> Any:
        """The next event, or NEED_DATA."""
        # Never between headers and the end of a request without chunks, which would look like a body still to come.
        may_stop = self._chunked or self.their_state is h11.IDLE
        if self.cut or (may_stop and self._clock() > self._until):
            self.cut = True
            return h11.NEED_DATA
        event = super().next_event()
        if type(event) is h11.Request:
            event = origin_form(event)
            self.cut = self._chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
        return event


class HeldFlow(FlowControl):
    """Flow control that reads nothing while there is something left to parse."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._held = False
        self._wanted = False

    def hold(self) -> None:
        """Stop reading until `let_go`."""
        if not self._held:
            self._held, self._wanted = True, not self.read_paused
            super().pause_reading()

    def let_go(self) -> None:
        """Read again, if anybody wants to."""
        if self._held:
            self._held = False
            if self._wanted:
                super().resume_reading()

    def pause_reading(self) -> None:
        """Stop reading."""
        self._wanted = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Read, now or once nothing is left to parse."""
        self._wanted = True
        if not self._held:
            super().resume_reading()
