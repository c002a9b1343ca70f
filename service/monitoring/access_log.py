"""ASGI middleware around all others that gives each request an id, counts it, and logs its answer."""

import hashlib
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Collection, Iterable
from itertools import count
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.monitoring.metrics import Metrics
from service.request_context import REQUEST_ID, RequestContext, begin_request

logger = logging.getLogger("service.access")

HEADER = b"x-request-id"
ACCEPTABLE = re.compile(rb"[A-Za-z0-9._-]{1,128}")  # as an id given by a client
LONGEST_PATH = 200  # characters of a path in the log
PROBES = ("/health", "/metrics")  # not logged if they succeed: they come every few seconds
OTHER = "other"  # the label of requests without a route, so that no client can invent labels
GONE = 499  # the status of an answer that was never begun, as the client was gone
ID_BYTES = 12  # of an id that is made here


class Exchange:
    """One request and its answer, observed while it is sent.

    context: of the request; it takes the id of the answer if that has one. status: of the answer, None until it
    begins. sent: bytes of its body. complete: whether its last byte is sent.
    """

    __slots__ = ("_send", "complete", "context", "sent", "status")

    def __init__(self, context: RequestContext, send: Send) -> None:
        self.context = context
        self.status: int | None = None
        self.sent = 0
        self.complete = False
        self._send = send

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; not a separate coroutine, because a stream has many messages."""
        if message["type"] == "http.response.body":
            self.sent += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        elif message["type"] == "http.response.start":
            self.status = message["status"]
            message = self._named(message)
        return self._send(message)

    def _named(self, message: Message) -> Message:
        """The start of an answer with the request's id; an id that the answer already has becomes the request's."""
        given = _header(message.get("headers", ()))
        if given is not None:
            self.context.id = given.decode("latin-1")
            return message
        return {**message, "headers": [*message.get("headers", ()), (HEADER, self.context.id.encode())]}


class AccessLog:
    """Wraps the application and all other middleware, so that it sees every answer.

    Starlette turns exceptions into answers outside of all added middleware, so this stands around the whole stack that
    `build_middleware_stack` builds. `receive` is passed on unchanged, so that routes still notice a client that leaves.

    paths: the templates of the routes. access_log: whether to log each answer.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str], access_log: bool) -> None:
        self.app = app
        self._metrics = metrics
        self._access_log = access_log
        self._paths = frozenset(paths)
        self._secret, self._made = secrets.token_bytes(32), count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application and record the answer; exceptions go on to the server, which logs them."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        context = begin_request(scope, self._id(scope))
        exchange = Exchange(context, send)
        try:
            await self.app(scope, receive, exchange.send)
        finally:
            REQUEST_ID.set(context.id)
            self._note(scope, exchange, time.monotonic() - context.arrived)

    def _note(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        """Count and log an answer that has ended, was cut off, or never began."""
        status = exchange.status or GONE
        route = self._route(scope)
        self._metrics.answered(route, status, seconds, exchange.context.failure)
        probe = scope["path"].startswith(PROBES) and 200 <= status < 300
        if probe or not self._access_log or not logger.isEnabledFor(logging.INFO):
            return
        fields: dict[str, Any] = {
            "method": scope["method"][:20],
            "path": scope["path"][:LONGEST_PATH],
            "route": route,
            "status": status,
            "seconds": round(seconds, 6),
            "bytes": exchange.sent,
            "client": (scope.get("client") or ("unknown",))[0],
            "key": exchange.context.key,
            "aborted": not exchange.complete or status == GONE,
        }
        logger.info(
            "%s %s %d in %.1f ms, %d bytes, for %s%s%s",
            fields["method"],
            fields["path"],
            status,
            1e3 * seconds,
            exchange.sent,
            fields["client"],
            "" if fields["key"] is None else f" with key {fields['key']}",
            ", aborted" if fields["aborted"] else "",
            extra={"fields": fields},
        )

    def _route(self, scope: Scope) -> str:
        """The template of the route, even if the request was refused before routing."""
        path = getattr(scope.get("route"), "path", None) or scope["path"]
        return path if path in self._paths else OTHER

    def _id(self, scope: Scope) -> str:
        """The id that a client gives its request, or a new one that reveals nothing of other requests.

        It is a digest of a count, as the system takes as long as three of them for random bytes.
        """
        given = _header(scope["headers"])
        if given is not None and ACCEPTABLE.fullmatch(given):
            return given.decode()
        counted = next(self._made).to_bytes(8, "big")
        return hashlib.blake2b(counted, digest_size=ID_BYTES, key=self._secret).hexdigest()


def _header(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The value of the header with a request's id."""
    return next((value for name, value in headers if name == HEADER), None)


def paths_of(app: FastAPI) -> set[str]:
    """The templates of all routes, including those of included routers."""
    paths: set[str] = set()
    for route in app.routes:
        included = getattr(route, "original_router", None)  # newer FastAPI keeps a router as one route
        for one in [route] if included is None else included.routes:
            if path := getattr(one, "path", None):
                paths.add(path)
    return paths
