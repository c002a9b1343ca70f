"""Errors in the dialect of text-generation-inference: status, error_type, and how the OpenAPI document shows them."""

from collections.abc import Mapping
from typing import Any

from service.api.error_responses import Failure, Shape

REF = "#/components/schemas/"

# Status and error_type for each status; a status that is not listed stays as it is, with "validation".
STATUSES: dict[int, tuple[int, str]] = {
    400: (422, "validation"),
    429: (429, "overloaded"),
    499: (499, "incomplete_generation"),
    500: (500, "incomplete_generation"),
    503: (503, "healthcheck"),
    504: (500, "incomplete_generation"),
}

ERROR = {"application/json": {"schema": {"$ref": f"{REF}TgiError"}}}
DESCRIPTIONS = {
    403: "The state was made for another API key.",
    404: "There is no such model, or the key may not use it.",
    409: "That version of the model, or of the state or stream to go on with, is not served any more; the sentence "
    "says which one is.",
    413: "The body is too large.",
    415: "The body is not announced as application/json, or is compressed by other than gzip or deflate.",
    422: "A field is missing, outside its limits or not supported, or the body is not JSON; the sentence says which.",
    424: "The model failed in the middle of the text; it is logged there.",
    429: "The queue is full; Retry-After says in how many seconds to try again.",
    500: "The text was not finished: in time, or because the server failed.",
    503: "The server is starting, stopping or broken; Retry-After says in how many seconds to try again.",
}


def tgi_shape(failure: Failure) -> tuple[int, Mapping[str, Any]]:
    """Status and body of an error in this dialect."""
    status, kind = STATUSES.get(failure.status, (failure.status, "validation"))
    if failure.code == "step_failed":
        status, kind = 424, "generation"
    return status, {"error": failure.message, "error_type": kind}


ERROR_SHAPES: dict[str, Shape] = dict.fromkeys(("/", "/generate", "/generate_stream", "/info", "/models/*"), tgi_shape)
"""The paths of this dialect, each with the shape of its errors; * stands for any end."""


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of error answers in this dialect."""
    documented: dict[int | str, dict[str, Any]] = {
        status: {"description": DESCRIPTIONS[status], "content": ERROR} for status in statuses
    }
    for status in {429, 503}.intersection(statuses):
        documented[status]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return {**documented, "default": {"description": "Any other error, in the same shape.", "content": ERROR}}
