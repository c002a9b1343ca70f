"""ASGI middleware that gives each key its share, and each address where there are no keys."""

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access import PUBLIC
from service.error_responses import Failure, respond
from service.fair_use import FairUse

LIMITED = "rate_limit_error"


class Allowance:
    """Lets requests through as `fair_use` says; it stands behind Access, which says whose a request is."""

    def __init__(self, app: ASGIApp, fair_use: FairUse) -> None:
        self.app = app
        self.fair_use = fair_use

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer in its place."""
        if scope["type"] != "http" or scope["path"] in PUBLIC:
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        caller = scope.get("unroll.holder") or (client[0] if client else "")
        if not self.fair_use.enter(caller):
            message = "You have as many requests open as you may; wait until one is answered."
            await self._refuse(scope, receive, send, Failure(429, message, LIMITED, "too_many_open_requests"), 1)
            return
        try:
            seconds = self.fair_use.wait(caller)
            if seconds:
                message = f"You have made as many requests as you may; try again in {seconds} s."
                failure = Failure(429, message, LIMITED, "rate_limit_exceeded")
                await self._refuse(scope, receive, send, failure, seconds)
            else:
                await self.app(scope, receive, send)
        finally:
            self.fair_use.leave(caller)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, failure: Failure, seconds: int) -> None:
        await respond(Request(scope), failure, {"Retry-After": str(seconds)})(scope, receive, send)
