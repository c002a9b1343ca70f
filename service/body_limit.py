"""ASGI middleware that stops reading a request's body once it is too large, announced or not."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Lets bodies of at most `max_bytes` through.

    A larger one raises a 413 where the application reads it, so that its answer is made where all errors are answered;
    the length a client announces is believed only when it is too large.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a `receive` that counts."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        left = self.max_bytes if len(announced) < 20 and int(announced) <= self.max_bytes else -1

        async def counted() -> Message:
            nonlocal left
            if left >= 0:
                message = await receive()
                left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"The body is larger than {self.max_bytes:,} bytes; send a shorter one.")
            return message

        await self.app(scope, counted, send)
