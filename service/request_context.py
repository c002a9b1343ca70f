"""What is known of the HTTP request being answered: one record, made by the outermost middleware."""

import time
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from service.process.ledger import Lease
from service.process.pass_budget import OnLeaving

CONTEXT = "unroll.request"  # the record's name in an ASGI scope
WHOLE = "unroll.whole"  # in an ASGI scope: its request has come with all of its body
LEAVING = "unroll.leaving"  # the name of the connection's `OnLeaving` in an ASGI scope

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request being answered, for log messages, which any code may write; elsewhere, use RequestContext."""


@dataclass(slots=True)
class RequestContext:
    """One HTTP request, without its body.

    id: given by the client or made here; logs and the answer carry it. arrived: when it came, by `time.monotonic`.
    key: label of its API key, and holder: SHA-256 of that key (32 bytes); None until the key is checked, and without
        one. caller: who is charged for it, its holder or where it comes from; None until that is known.
    models: names of those that the key may use; None for all.
    lease: of its body and of what parsing makes of it, released when it is answered; None until the body is read.
    take_lines: lets a body be of any length whose reader takes lines of it as they come; see `BodyLimit`.
    failure: code of the error it was answered with.
    on_leaving: tells of a client that leaves, also while nothing of its body is read; never, where the server is
        another one than `unroll serve`.
    """

    id: str
    arrived: float
    key: str | None = None
    holder: bytes | None = None
    caller: bytes | str | None = None
    models: frozenset[str] | None = None
    lease: Lease | None = None
    take_lines: Callable[[], None] | None = None
    failure: str | None = None
    on_leaving: OnLeaving = lambda _: None


def begin_request(scope: MutableMapping[str, Any], request_id: str) -> RequestContext:
    """Make the record of a request that arrives now, and keep it in the request's ASGI scope."""
    context = RequestContext(request_id, time.monotonic())
    if LEAVING in scope:
        context.on_leaving = scope[LEAVING]
    scope[CONTEXT] = context
    # Never reset: each request is a task of its own, and what the server logs at its end carries the id, too.
    REQUEST_ID.set(request_id)
    return context


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The first header of a name, in lower case, of the request with this ASGI scope; None where it has none.

    Starlette's `Headers` do the same in three times the time, and a short request is asked for ten.
    """
    for one, value in scope["headers"]:
        if one == name:
            return str(value.decode("latin-1"))
    return None


def request_context(scope: MutableMapping[str, Any]) -> RequestContext:
    """The record of the request with this ASGI scope."""
    context: RequestContext = scope[CONTEXT]
    return context
