"""The request being answered: its id, its arrival time, and the names of its entries in an ASGI scope."""

from contextvars import ContextVar

ARRIVED: ContextVar[float | None] = ContextVar("arrived", default=None)
"""When the request that is being answered arrived, by `time.monotonic`."""

KEY = "unroll.key"
"""In a request's scope: the label of the key it came with, once that is known."""

FAILURE = "unroll.failure"
"""In a request's scope: the code of the error it was answered with."""

HOLDER = "unroll.holder"
"""In a request's scope: the digest of the key it came with."""

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The name of the request that is being answered, which each message about it bears."""
