"""Turns every error into an HTTP answer in the format of its route's dialect: a status, a sentence, no traceback."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Scope

from model.errors import ParameterError, ServiceError, TokenizerError
from service.api.problems import not_json, remedy, where_to_go
from service.api.schemas import ErrorBody, ErrorDetail
from service.errors import (
    DeadlineExceeded,
    Disconnected,
    Draining,
    EngineStopped,
    MemorySpent,
    ModelUnavailable,
    QueueFull,
    ReaderTooSlow,
    StateOfAnother,
    StepFailed,
    TooCostly,
    UnknownModel,
    VersionGone,
)
from service.request_context import request_context

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 500  # characters; even at six bytes each, as for \u0000, the body stays under 4 KiB

NO_MEMORY = "The server has no memory for this now; try again in a moment, or send less."

MOST_PROBLEMS = 3  # of a request, the most that one answer reports

INVALID = "invalid_request_error"

# Status, type and code of each kind of ServiceError; any other kind is a fault of the server.
KINDS: dict[type[ServiceError], tuple[int, str, str]] = {
    UnknownModel: (404, INVALID, "model_not_found"),
    VersionGone: (409, INVALID, "model_version_gone"),
    StateOfAnother: (403, INVALID, "state_of_another"),
    TooCostly: (413, INVALID, "too_costly"),
    QueueFull: (429, "rate_limit_error", "queue_full"),
    Disconnected: (499, INVALID, "disconnected"),
    StepFailed: (500, "server_error", "step_failed"),
    MemorySpent: (503, "server_error", "out_of_memory"),
    Draining: (503, "server_error", "draining"),
    ModelUnavailable: (503, "server_error", "model_unavailable"),
    EngineStopped: (503, "server_error", "engine_stopped"),
    ReaderTooSlow: (503, "server_error", "reader_too_slow"),
    DeadlineExceeded: (504, "server_error", "deadline_exceeded"),
}
RETRY_AFTER = {429: "1", 503: "5"}  # seconds: a queue moves on soon, a restart takes longer

STATUS_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "body_too_slow",
    413: "body_too_large",
    415: "unsupported_media_type",
    499: "disconnected",
}

UNREADABLE = "There was an error parsing the body"  # FastAPI's words


class Failure(NamedTuple):
    """An error before a dialect formats it: a status, a sentence, and OpenAI's type, code and param."""

    status: int
    message: str
    kind: str
    code: str | None = None
    param: str | None = None


FAULT = Failure(500, "The server failed; it has been logged. Try again.", "server_error", "internal_error")

Shape = Callable[[Failure], tuple[int, Mapping[str, Any]]]
"""Gives the status and body of an error in a dialect; the message has been shortened before."""


def openai_shape(failure: Failure) -> tuple[int, dict[str, Any]]:
    """Status and body in OpenAI's dialect, the default of all routes."""
    detail = ErrorDetail(message=failure.message, type=failure.kind, param=failure.param, code=failure.code)
    return failure.status, ErrorBody(error=detail).model_dump()


def of_service_error(error: ServiceError) -> Failure:
    """The Failure of a ServiceError, also in the middle of a stream."""
    status, kind, code = KINDS.get(type(error), (500, "server_error", "internal_error"))
    param = "model" if isinstance(error, UnknownModel | VersionGone) else None
    return Failure(status, str(error)[:LONGEST_MESSAGE], kind, code, param)


class ErrorResponses:
    """Answers errors in the format of their path's dialect.

    shapes: formats of the paths with another dialect than OpenAI's; a path that ends with * stands for all that begin
    with it.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = {path: shape for path, shape in shapes.items() if not path.endswith("*")}
        self._beginnings = {path[:-1]: shape for path, shape in shapes.items() if path.endswith("*")}

    def respond(self, scope: Scope, failure: Failure, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The answer to a request that failed, with Retry-After if a retry may succeed."""
        request_context(scope).failure = failure.code
        shape = self._shape_of(_route_path(scope))
        status, content = shape(failure._replace(message=failure.message[:LONGEST_MESSAGE]))
        retry = {"Retry-After": RETRY_AFTER[failure.status]} if failure.status in RETRY_AFTER else {}
        return JSONResponse(content, status, {**retry, **(headers or {})})

    def _shape_of(self, path: str) -> Shape:
        if (shape := self._shapes.get(path)) is not None:
            return shape
        return next((one for begin, one in self._beginnings.items() if path.startswith(begin)), openai_shape)

    def install(self, app: FastAPI) -> None:
        """Make an application answer every exception with these responses."""
        for kind, failure_of in FAILURES.items():
            app.add_exception_handler(kind, self._handler(failure_of))

    def _handler(self, failure_of: Callable[[Request, Any], Failure]) -> Callable[[Request, Any], Any]:
        async def handle(request: Request, error: Any) -> JSONResponse:
            return self.respond(request.scope, failure_of(request, error), getattr(error, "headers", None))

        return handle


def of_parameter_error(_: Request | None, error: Any) -> Failure:
    """The Failure of a parameter that only the model could check."""
    param = error.parameter if isinstance(error, ParameterError) else "prompt"
    return Failure(400, str(error), INVALID, "invalid_value", param)


def of_validation_error(request: Request, error: Any) -> Failure:
    """The Failure of a body that is not a JSON object or has invalid fields; it does not repeat the body."""
    if isinstance(error.body, bytes):
        given = request.headers.get("content-type", "")[:100] or "nothing"
        message = f"The body is announced as {given}; send JSON with the header Content-Type: application/json."
        return Failure(415, message, INVALID, "unsupported_media_type")
    remedies: dict[tuple[Any, ...], list[str]] = {}
    for problem in error.errors()[:MOST_PROBLEMS]:
        place, what = _problem(problem, error.body)
        remedies.setdefault(place, []).append(what)
    message = "; ".join(_sentence_on(place, what) for place, what in remedies.items())
    param = next(iter(next(iter(remedies))), None)
    return Failure(400, message[: LONGEST_MESSAGE - 1] + ".", INVALID, "invalid_value", param)


def _problem(problem: Mapping[str, Any], body: Any) -> tuple[tuple[Any, ...], str]:
    """The place of one validation error in the body, as a path of names, and what is wrong there."""
    _, *path = problem["loc"]  # the first part is "body"
    if problem["type"] == "json_invalid":
        return (), not_json(str(body), path[0], problem["ctx"]["error"])
    if not path:
        empty = problem["type"] == "missing"
        return (), "The body is empty; send a JSON object" if empty else "The body must be a JSON object"
    return tuple(_in_body(path, body, problem["type"] == "missing")), remedy(problem)


def _in_body(path: Sequence[str | int], body: Any, missing: bool) -> Iterator[str | int]:
    """The parts of a path that exist in the request; the names of our own types are left out.

    missing: whether the last part is the missing field.
    """
    for number, part in enumerate(path):
        of_list = isinstance(body, list) and isinstance(part, int) and part < len(body)
        if of_list or (isinstance(body, dict) and part in body):
            yield part
            body = body[part]
        elif number == 0 or (missing and number == len(path) - 1):
            yield part


def _sentence_on(place: Sequence[str | int], remedies: Sequence[str]) -> str:
    """What to do about one place, whose value may be of several kinds."""
    first, *more = dict.fromkeys(remedies)
    if more and all(one.startswith("send ") for one in (first, *more)):
        words = ", or ".join([first, *(one.removeprefix("send ") for one in more)])
    else:
        words = "; ".join([first, *more])
    return f"{'.'.join(str(part)[:40] for part in place)}: {words}" if place else words


def of_http_exception(request: Request, error: Any) -> Failure:
    """The Failure of a route or method that does not exist, or of a body that cannot be read."""
    if isinstance(error.__cause__, ServiceError):  # FastAPI wraps it in an HTTPException
        return of_service_error(error.__cause__)
    if isinstance(error.__cause__, MemoryError):  # FastAPI reports it as a body that cannot be read
        return of_memory_error(request, error.__cause__)
    code = STATUS_CODES.get(error.status_code, "invalid_value")
    return Failure(error.status_code, _sentence(request, error), INVALID, code)


def _sentence(request: Request, error: Any) -> str:
    """The message of an HTTPException; it replaces those of Starlette and FastAPI."""
    root = request.scope.get("root_path", "")
    if error.status_code == 404:
        return where_to_go(_route_path(request.scope), request.app.state.paths, root)
    if error.status_code == 405:
        takes = (error.headers or {}).get("Allow", "another method")
        return f"This route accepts {takes}, not {request.method[:20]}; the routes are listed at {root}/docs."
    if error.detail == UNREADABLE:
        return "The body cannot be read as JSON; send an object in UTF-8 without deep nesting."
    return str(error.detail)


def _route_path(scope: Scope) -> str:
    """The path without the prefix of a proxy."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def of_memory_error(*_: object) -> Failure:
    """The Failure of a request for which there is no memory; other requests continue."""
    return of_service_error(MemorySpent(NO_MEMORY))


def of_exception(error: Exception) -> Failure:
    """The Failure of any exception after the status was sent; a fault of the server is logged."""
    if isinstance(error, ServiceError):
        return of_service_error(error)
    if isinstance(error, ParameterError | TokenizerError):
        return of_parameter_error(None, error)
    if isinstance(error, MemoryError):
        return of_memory_error()
    logger.error("A stream failed.", exc_info=error)
    return FAULT


FAILURES: dict[type[Exception], Callable[[Request, Any], Failure]] = {
    RequestValidationError: of_validation_error,
    HTTPException: of_http_exception,
    ServiceError: lambda _, error: of_service_error(error),
    ParameterError: of_parameter_error,
    TokenizerError: of_parameter_error,
    MemoryError: of_memory_error,
    Exception: lambda *_: FAULT,
}
"""The Failure of each kind of exception. The last is a fault of the server; its traceback goes only to the log."""
