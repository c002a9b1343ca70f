"""ASGI middleware that limits the requests of each key, or of each address if there are no keys."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.error_responses import ErrorResponses, Failure
from service.request_context import request_context
from service.security.auth import PUBLIC

# Callers that are remembered. One that is forgotten has its full allowance again. All keys fit many times over, so that
# only addresses are ever forgotten.
MOST_CALLERS = 65_536


class RateLimiter:
    """Counts the requests of each caller.

    per_minute: requests a caller may make in each minute, at once or spread; 0 = any number.
    at_once: most open requests of one caller; 0 = any number.
    clock: seconds that never go back.

    The rate is the generic cell rate algorithm (ITU-T I.371): one number for each caller: when its requests so far
    would have been earned.
    """

    def __init__(self, per_minute: float, at_once: int, clock: Callable[[], float]) -> None:
        self._period = 60 / per_minute if per_minute else 0.0  # seconds that earn a request
        self._credit = max(60.0, self._period)  # seconds of it that may be used in advance
        self._at_once = at_once
        self._clock = clock
        self._earned: OrderedDict[Hashable, float] = OrderedDict()
        self._open: dict[Hashable, int] = {}

    def wait(self, caller: Hashable) -> int:
        """Count a request; 0 if it may be made, else the whole seconds after which it may."""
        if not self._period:
            return 0
        now = self._clock()
        earned = max(now, self._earned.get(caller, now)) + self._period
        late = earned - now - self._credit
        if late > 1e-9:  # more than an error of rounding
            return math.ceil(late)
        self._earned[caller] = earned
        self._earned.move_to_end(caller)
        if len(self._earned) > MOST_CALLERS:
            self._earned.popitem(last=False)
        return 0

    def enter(self, caller: Hashable) -> bool:
        """Count a request as open, unless the caller has as many as it may; each that enters has to leave."""
        count = self._open.get(caller, 0)
        if self._at_once and count >= self._at_once:
            return False
        self._open[caller] = count + 1
        return True

    def leave(self, caller: Hashable) -> None:
        """Count a request as answered."""
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]


LIMITED = "rate_limit_error"


class RateLimit:
    """Passes on the requests that `limiter` allows; it stands behind Auth, which says who calls.

    page: paths of the files of the page for people, which are not counted.
    """

    def __init__(self, app: ASGIApp, limiter: RateLimiter, errors: ErrorResponses, page: frozenset[str]) -> None:
        self.app = app
        self.free = PUBLIC | page
        self.errors = errors
        self.limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer in its place."""
        if scope["type"] != "http" or scope["path"] in self.free:
            await self.app(scope, receive, send)
            return
        caller = request_context(scope).caller
        if not self.limiter.enter(caller):
            message = "You have as many requests open as you may; wait until one is answered."
            await self._refuse(scope, receive, send, Failure(429, message, LIMITED, "too_many_open_requests"), 1)
            return
        try:
            seconds = self.limiter.wait(caller)
            if seconds:
                message = f"You have made as many requests as you may; try again in {seconds} s."
                failure = Failure(429, message, LIMITED, "rate_limit_exceeded")
                await self._refuse(scope, receive, send, failure, seconds)
            else:
                await self.app(scope, receive, send)
        finally:
            self.limiter.leave(caller)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, failure: Failure, seconds: int) -> None:
        await self.errors.respond(scope, failure, {"Retry-After": str(seconds)})(scope, receive, send)
