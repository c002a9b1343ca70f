"""Errors that a connection answers instead of the application, in OpenAI's shape, since no route is known."""

import json
from http import HTTPStatus

from starlette.responses import Response

from service.api.error_responses import INVALID, RETRY_AFTER, Failure, openai_shape
from service.security.security_headers import HEADERS

CROWDED = Failure(
    503,
    "All the connections this server takes are open; try again in a moment.",
    "server_error",
    "too_many_connections",
)
CROWDED_ADDRESS = Failure(
    429,
    "All the connections this server takes from one address are open; close some, or try again in a moment.",
    "rate_limit_error",
    "too_many_connections",
)
NOT_HERE = Failure(
    404, "This port answers only /health, /health/live, /health/ready and /metrics.", INVALID, "not_found"
)
LATE = Failure(
    408, "The headers of a request did not come in time; send them at once.", INVALID, "headers_too_slow"
)  # fmt: skip
LARGE = Failure(431, "The request has too many or too long headers; send fewer.", INVALID, "headers_too_large")
UNCLEAR = Failure(
    400, "The request has both Content-Length and Transfer-Encoding; send one of them.", INVALID, "malformed_request"
)
MALFORMED = Failure(
    400, "This is no HTTP/1.1 request that can be read; use an HTTP client.", INVALID, "malformed_request"
)
UNREADABLE = (LARGE, UNCLEAR, MALFORMED)
"""Errors of clients that did not send a serious request."""
STOPPING = Failure(
    503, "The server is stopping; send this to another, or try again later.", "server_error", "draining"
)  # fmt: skip


def refusal(failure: Failure) -> Response:
    """The answer to a request that never reaches the application."""
    status, content = openai_shape(failure)
    retry = {"Retry-After": RETRY_AFTER[status]} if status in RETRY_AFTER else {}
    return Response(json.dumps(content), status, {**HEADERS, **retry}, "application/json")


def whole(failure: Failure) -> bytes:
    """All bytes of that answer, for a connection from which nothing is read."""
    answer = refusal(failure)
    lines = [b"HTTP/1.1 %d %s" % (failure.status, HTTPStatus(failure.status).phrase.encode())]
    lines += [b"%s: %s" % header for header in (*answer.raw_headers, (b"connection", b"close"))]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body)
