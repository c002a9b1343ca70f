"""The served OpenAPI document: exact where FastAPI rounds, and with the limits of the served model."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service.api.schemas import LARGEST_ID, ErrorBody

RESUMES = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The id of the last event received of the same request: the stream goes on after it. Only streams.",
}
PATH = "/openapi.json"
"""The path of the document."""
EXACT = 2.0**53  # a larger float does not stand for one exact integer


def described(
    describe: Callable[[], dict[str, Any]],
    vocabulary: Callable[[], int],
    only_in_streams: Sequence[type[BaseModel]] = (),
) -> Callable[[], dict[str, Any]]:
    """A function that returns the corrected document of `describe`; FastAPI calls it once and keeps the result.

    vocabulary: the number of ids of the largest vocabulary.
    only_in_streams: schemas that occur only in streams; FastAPI leaves them out.
    """

    def exactly() -> dict[str, Any]:
        document = describe()
        schemas = document["components"]["schemas"]
        for kind in only_in_streams:
            schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            for name, inner in {**schema.pop("$defs", {}), kind.__name__: schema}.items():
                schemas.setdefault(name, inner)
        _limits(document, vocabulary())
        for path in document["paths"].values():
            for operation in path.values():
                _answers(operation["responses"])
                _goes_on(operation)
        return document

    return exactly


def add_document(app: FastAPI) -> None:
    """Add the route of the document. A thread makes the document, which takes a fifth of a second; its bytes are
    kept.

    FastAPI's own route makes it on the event loop, and makes the bytes again for each request.
    """
    kept: dict[str, bytes] = {}
    making = asyncio.Lock()

    def made(root: str) -> bytes:
        servers = {"servers": [{"url": root}]} if root else {}
        return json.dumps({**app.openapi(), **servers}, ensure_ascii=False, separators=(",", ":")).encode()

    async def document(request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")  # the prefix that the settings name
        async with making:
            if root not in kept:
                kept[root] = await asyncio.to_thread(made, root)
        return Response(kept[root], media_type="application/json")

    app.add_api_route(PATH, document, methods=["GET"], include_in_schema=False)


def _limits(part: Any, vocabulary: int) -> None:
    """Turn limits of integers into integers again, and set the limits of ids from the vocabulary."""
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        _limits(inner, vocabulary)
    if not isinstance(part, dict) or part.get("type") != "integer":
        return
    for name in ("minimum", "maximum", "exclusiveMinimum"):
        limit = part.get(name)
        if isinstance(limit, float):  # 2⁶⁴ - 1 had become 2⁶⁴
            part[name] = int(limit) - 1 if limit > EXACT else int(limit)
    if part.get("maximum") == LARGEST_ID:
        part["maximum"] = vocabulary - 1


def _goes_on(operation: dict[str, Any]) -> None:
    """Document how a stream of events is resumed after one of them, if the answer may be a stream."""
    if "text/event-stream" in operation["responses"].get("200", {}).get("content", {}):
        parameters = operation.setdefault("parameters", [])
        if RESUMES not in parameters:  # the document is made once, but corrected at each request of it
            parameters.append(RESUMES)
        operation["responses"]["204"] = {"description": "The event that Last-Event-ID names was the stream's last."}


def _answers(responses: dict[str, Any]) -> None:
    """Document errors as JSON also if the answer is a stream of events."""
    for status, response in responses.items():
        content = response.get("content", {})
        if status != "200" and "text/event-stream" in content:
            content["application/json"] = content.pop("text/event-stream")


def event_schema(description: str, *kinds: str) -> dict[str, Any]:
    """The schema of an event of a stream in OpenAI's dialect: JSON of one of these kinds, or [DONE] at the end."""
    content = {"anyOf": [{"$ref": f"#/components/schemas/{kind}"} for kind in kinds]}
    json = {"contentMediaType": "application/json", "contentSchema": content}
    data = {"type": "string", "anyOf": [{"const": "[DONE]"}, json]}
    return {"type": "object", "description": description, "properties": {"data": data}, "required": ["data"]}


DESCRIPTIONS = {
    400: "A field is missing or outside its limits, or the body is not JSON; `param` names the field.",
    403: "The state was made for another API key or another cache_salt.",
    404: "The model does not exist, or the key may not use it.",
    409: "That version of the model, or of the state or stream to continue, is no longer served; the message "
    "names the one that is.",
    413: "The body is too large.",
    415: "The Content-Type is not application/json, or the compression is neither gzip nor deflate.",
    429: "The queue is full; try again after the seconds in Retry-After.",
    500: "The server failed; its log has the reason.",
    503: "The server is starting, stopping or broken; try again after the seconds in Retry-After.",
    504: "The text was not finished in time; ask for less, or try later.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of a route's error answers; "default" keeps FastAPI from promising a 422 of its own."""
    documented: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": DESCRIPTIONS[status]} for status in statuses
    }
    for status in {429, 503}.intersection(statuses):
        documented[status]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return {**documented, "default": {"model": ErrorBody, "description": "Any other error, in the same shape."}}
