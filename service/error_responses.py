"""Every error as one HTTP answer: a status and a small body in OpenAI's shape, with a sentence and no traceback."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from model.errors import ParameterError, ServiceError, TokenizerError
from service.errors import DeadlineExceeded, Disconnected, Draining, EngineStopped, QueueFull, StepFailed, UnknownModel
from service.schemas import ErrorBody, ErrorDetail

LONGEST_MESSAGE = 500  # characters; at six bytes each, as \u0000 has, the body still stays under 4 KiB

MOST_PROBLEMS = 3  # of a request are named at once

INVALID = "invalid_request_error"

# Status, type and code of each kind of ServiceError; what is not listed is the server's own mistake.
KINDS: dict[type[ServiceError], tuple[int, str, str]] = {
    UnknownModel: (404, INVALID, "model_not_found"),
    QueueFull: (429, "rate_limit_error", "queue_full"),
    Disconnected: (499, INVALID, "disconnected"),
    StepFailed: (500, "server_error", "step_failed"),
    Draining: (503, "server_error", "draining"),
    EngineStopped: (503, "server_error", "engine_stopped"),
    DeadlineExceeded: (504, "server_error", "deadline_exceeded"),
}
RETRY_AFTER = {429: "1", 503: "5"}  # seconds: a queue moves on, a restart takes a moment

STATUS_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}

# pydantic's own words where they do not name the remedy
SENTENCES = {
    "missing": "it is required",
    "none_required": "this server does not support it, leave it out",
    "model_type": "The body has to be a JSON object",
    "json_invalid": "The body is not JSON",
}


def body(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The body of an error answer, and the data of an error event."""
    detail = ErrorDetail(message=message[:LONGEST_MESSAGE], type=kind, param=param, code=code)
    return ErrorBody(error=detail).model_dump()


def of_service_error(error: ServiceError) -> tuple[int, dict[str, Any]]:
    """Status and body of a ServiceError."""
    status, kind, code = KINDS.get(type(error), (500, "server_error", "internal_error"))
    param = "model" if isinstance(error, UnknownModel) else None
    return status, body(str(error), kind, code, param)


def respond(status: int, content: dict[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer, with advice on when to try again where that helps."""
    retry = {"Retry-After": RETRY_AFTER[status]} if status in RETRY_AFTER else {}
    return JSONResponse(content, status, {**(headers or {}), **retry})


async def on_service_error(request: Request, error: Any) -> JSONResponse:  # noqa: ARG001
    """A request that cannot be taken or finished."""
    return respond(*of_service_error(error))


async def on_parameter_error(request: Request, error: Any) -> JSONResponse:  # noqa: ARG001
    """A parameter only the model itself could judge."""
    param = error.parameter if isinstance(error, ParameterError) else "prompt"
    return respond(400, body(str(error), INVALID, "invalid_value", param))


async def on_validation_error(request: Request, error: Any) -> JSONResponse:
    """A body that is no JSON object, or has fields out of their limits; what was sent is not sent back."""
    if isinstance(error.body, bytes):
        given = request.headers.get("content-type", "")[:100] or "nothing"
        message = f"The body is announced as {given}; send JSON with the header Content-Type: application/json."
        return respond(415, body(message, INVALID, "unsupported_media_type"))
    problems = [_problem(problem) for problem in error.errors()[:MOST_PROBLEMS]]
    message = "; ".join(message for _, message in problems)
    return respond(400, body(message + ".", INVALID, "invalid_value", problems[0][0]))


def _problem(problem: Mapping[str, Any]) -> tuple[str | None, str]:
    """The field one validation error is about, if any, and what is wrong with it."""
    _, *path = problem["loc"]  # the first says that it is in the body
    if problem["type"] in ("json_invalid", "model_type") or not path:
        return None, SENTENCES.get(problem["type"], "The body is empty; send a JSON object")
    text: str = SENTENCES.get(problem["type"], problem["msg"])
    return path[0], ".".join(map(str, path)) + ": " + text[:1].lower() + text[1:]


async def on_http_exception(request: Request, error: Any) -> JSONResponse:
    """A route or method that does not exist, or a body that cannot be read."""
    messages = {
        400: "The body is not JSON that can be read; send an object in UTF-8 that does not nest deeply.",
        404: "There is nothing here; the routes are listed at /docs.",
        405: f"This route does not take {request.method[:20]}; the routes are listed at /docs.",
    }
    message = messages.get(error.status_code, str(error.detail))
    code = STATUS_CODES.get(error.status_code, "invalid_value")
    return respond(error.status_code, body(message, INVALID, code), error.headers)


async def on_exception(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    """A mistake of the server's own; the traceback goes to the log only."""
    return respond(500, body("The server failed; it has been logged. Try again.", "server_error", "internal_error"))


def install(app: FastAPI) -> None:
    """Let the application answer every error in this one shape."""
    handlers: dict[type[Exception], Callable[[Request, Any], Any]] = {
        RequestValidationError: on_validation_error,
        HTTPException: on_http_exception,
        ServiceError: on_service_error,
        ParameterError: on_parameter_error,
        TokenizerError: on_parameter_error,
        Exception: on_exception,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
