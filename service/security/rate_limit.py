"""ASGI middleware that limits the requests of each key, or of each address if there are no keys."""

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.error_responses import ErrorResponses, Failure
from service.request_context import request_context
from service.security.auth import PUBLIC
from service.siblings.sums import OwnSums

# Callers that are remembered. A forgotten one has its full allowance again. All keys fit many times over, so only
# addresses are ever forgotten.
MOST_CALLERS = 65_536
SMALL = 65_536  # bytes that the system accepts at once


class Requests(Protocol):
    """The counts of each caller's requests.

    lock: to be held to read and then change a count.
    """

    @property
    def lock(self) -> AbstractContextManager[None]: ...

    def of(self, name: Hashable) -> int:
        """How many requests are open."""

    def add(self, name: Hashable, number: int) -> None:
        """Count requests as open, or with a negative number as answered."""

    def stamp(self, name: Hashable) -> float:
        """When the requests so far will be paid for; 0 for an unknown caller."""

    def set_stamp(self, name: Hashable, stamp: float) -> None:
        """Store that time."""


class OwnRequests(OwnSums):
    """The same for a process that serves alone."""

    def __init__(self) -> None:
        super().__init__()
        self._earned: OrderedDict[Hashable, float] = OrderedDict()

    def stamp(self, name: Hashable) -> float:
        """When the requests of a caller so far will be paid for."""
        return self._earned.get(name, 0.0)

    def set_stamp(self, name: Hashable, stamp: float) -> None:
        """Store that time, and forget the least recent caller if there are too many."""
        self._earned[name] = stamp
        self._earned.move_to_end(name)
        if len(self._earned) > MOST_CALLERS:
            self._earned.popitem(last=False)


class RateLimiter:
    """Counts the requests of each caller.

    per_minute: requests that a caller may make in each minute, at once or spread; 0 = any number.
    at_once: most open requests of one caller; 0 = any number.
    clock: seconds that never go back.
    requests: the counts of each caller, if they are shared with other processes.

    The rate is limited by the generic cell rate algorithm (ITU-T I.371), with one number for each caller: when its
    requests so far will be paid for.
    """

    def __init__(
        self, per_minute: float, at_once: int, clock: Callable[[], float], requests: Requests | None = None
    ) -> None:
        self._period = 60 / per_minute if per_minute else 0.0  # seconds that pay for a request
        self._credit = max(60.0, self._period)  # seconds that may be used in advance
        self._at_once = at_once
        self._clock = clock
        self._requests = requests or OwnRequests()

    def wait(self, caller: Hashable) -> int:
        """Count a request; 0 if it may be made, else the whole seconds after which it may."""
        if not self._period:
            return 0
        with self._requests.lock:
            now = self._clock()
            earned = max(now, self._requests.stamp(caller)) + self._period
            late = earned - now - self._credit
            if late > 1e-9:  # more than a rounding error
                return math.ceil(late)
            self._requests.set_stamp(caller, earned)
        return 0

    def enter(self, caller: Hashable) -> bool:
        """Count a request as open, unless the caller has as many as it may; each `enter` needs a `leave`."""
        if not self._at_once:
            return True
        with self._requests.lock:
            if self._requests.of(caller) >= self._at_once:
                return False
            self._requests.add(caller, 1)
        return True

    def leave(self, caller: Hashable) -> None:
        """Count a request as answered."""
        if self._at_once:
            with self._requests.lock:
                self._requests.add(caller, -1)


LIMITED = "rate_limit_error"


class RateLimit:
    """Passes on the requests that `limiter` allows; it comes after Auth, which identifies the caller.

    page: paths of the files of the browser page, which are not counted.
    """

    def __init__(self, app: ASGIApp, limiter: RateLimiter, errors: ErrorResponses, page: frozenset[str]) -> None:
        self.app = app
        self.free = PUBLIC | page
        self.errors = errors
        self.limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer instead of it."""
        if scope["type"] != "http" or scope["path"] in self.free:
            await self.app(scope, receive, send)
            return
        caller = request_context(scope).caller
        if not self.limiter.enter(caller):
            message = "You have as many requests open as you may; wait until one is answered."
            await self._refuse(scope, receive, send, Failure(429, message, LIMITED, "too_many_open_requests"), 1)
            return
        answer = _Answer(send, partial(self.limiter.leave, caller))
        try:
            seconds = self.limiter.wait(caller)
            if seconds:
                message = f"You have made as many requests as you may; try again in {seconds} s."
                failure = Failure(429, message, LIMITED, "rate_limit_exceeded")
                await self._refuse(scope, receive, answer.send, failure, seconds)
            else:
                await self.app(scope, receive, answer.send)
        finally:
            answer.end()

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, failure: Failure, seconds: int) -> None:
        await self.errors.respond(scope, failure, {"Retry-After": str(seconds)})(scope, receive, send)


class _Answer:
    """Counts a request as answered before the last bytes of its answer are sent.

    The client's next request may reach another process at once, and must not be refused because of an answered one.
    """

    def __init__(self, send: Send, leave: Callable[[], None]) -> None:
        self._send, self._leave = send, leave
        self._ended = False

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on."""
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last and len(message.get("body", b"")) <= SMALL:  # a larger one may take its reader a while
            self.end()
        return self._send(message)

    def end(self) -> None:
        """Count the request as answered, once."""
        if not self._ended:
            self._ended = True
            self._leave()
