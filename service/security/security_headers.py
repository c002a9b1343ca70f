"""ASGI middleware that adds headers to restrict what browsers may do with an answer."""

from collections.abc import Awaitable, Mapping
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",  # an answer may repeat the prompt
}
# The documentation page runs its own scripts and calls the server.
DOCUMENTED = {
    **HEADERS,
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; frame-ancestors 'none'"
    ),
}
# The browser page: only its own files and its own server, no inline script or style, and no markup from text except
# the templates of lit-html, which are part of its file.
PAGE = {
    **HEADERS,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types lit-html"
    ),
}
BY_PATH = {"/": PAGE, "/docs": DOCUMENTED}
ONLY_TLS = {"Strict-Transport-Security": "max-age=31536000"}  # a year


class SecurityHeaders:
    """Adds the headers that an answer does not have yet.

    tls: whether the server is reached by https, so that browsers shall use nothing else for it.
    """

    def __init__(self, app: ASGIApp, tls: bool) -> None:
        self.app = app
        more = ONLY_TLS if tls else {}
        self._usual = tuple(_raw({**HEADERS, **more}))
        self._by_path = {path: tuple(_raw({**own, **more})) for path, own in BY_PATH.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a `send` that adds to the headers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        own = self._by_path.get(scope["path"], self._usual)

        def with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                message = {**message, "headers": [*given, *_missing(own, tuple([name for name, _ in given]))]}
            return send(message)

        await self.app(scope, receive, with_headers)


@lru_cache(256)
def _missing(own: tuple[tuple[bytes, bytes], ...], names: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """The headers that are not among the names; cached, as answers have few different sets."""
    there = {name.lower() for name in names}
    return [one for one in own if one[0] not in there]


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers in the form of an ASGI message."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
