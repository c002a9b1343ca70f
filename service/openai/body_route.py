"""A route whose only argument beside the request is a JSON body: read and checked as FastAPI does, with less work."""

import email.message
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import lru_cache
from typing import Any, get_type_hints

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.error_responses import UNREADABLE


class BodyRoute(APIRoute):
    """A route to `async def endpoint(body: Model, request: Request) -> Response`.

    FastAPI documents it as any other. Its own handler solves dependencies and prepares for forms and return values at
    each request, which takes a tenth of the time of a short one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        endpoint: Callable[[Any, Request], Awaitable[Response]] = self.endpoint
        model: type[BaseModel] = get_type_hints(endpoint)["body"]

        async def handle(request: Request) -> Response:
            return await endpoint(checked(model, await body_of(request)), request)

        return handle


class Straight:
    """Around routing: takes a POST for the path of a BodyRoute straight to it, and lets all else be routed.

    Routing asks router after router, and makes ready for dependencies that such a route has not; it takes a sixth of
    the time of a short request. Errors are answered by the middleware around, as for all routes.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self.app = app
        self._routes = {route.path: (route, route.get_route_handler()) for route in _body_routes(routes)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have it routed."""
        found = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        route, handle = found
        scope.update(route=route, endpoint=route.endpoint, path_params={})
        response = await handle(Request(scope, receive, send))
        await response(scope, receive, send)


def route_straight(app: FastAPI) -> None:
    """Have BodyRoutes found without routing, once all routes of an application are there."""
    app.router.middleware_stack = Straight(app.router.middleware_stack, app.routes)


def _body_routes(routes: Iterable[BaseRoute]) -> Iterator[BodyRoute]:
    for route in routes:
        included = getattr(route, "original_router", None)  # newer FastAPI keeps a router as one route
        if included is not None:
            yield from _body_routes(included.routes)
        elif isinstance(route, BodyRoute):
            yield route


async def body_of(request: Request) -> Any:
    """The JSON value of a body; its bytes where it is announced as something else, None where there are none.

    Raises HTTPException and RequestValidationError.
    """
    try:
        sent = await request.body()
        if not sent:
            return None
        return json.loads(sent) if is_json(request.headers.get("content-type", "")) else sent
    except json.JSONDecodeError as error:
        problem = {"type": "json_invalid", "loc": ("body", error.pos), "ctx": {"error": error.msg}}
        raise RequestValidationError([problem], body=error.doc) from error
    except HTTPException:
        raise
    except Exception as error:
        raise HTTPException(400, UNREADABLE) from error


def checked(model: type[BaseModel], value: Any) -> BaseModel:
    """A body as its model. Raises RequestValidationError."""
    if value is None:
        raise RequestValidationError([{"type": "missing", "loc": ("body",), "input": None}], body=None)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise RequestValidationError(problems, body=value) from None


@lru_cache(256)
def is_json(content_type: str) -> bool:
    """Whether a Content-Type is that of JSON."""
    message = email.message.Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return (
        bool(content_type)
        and message.get_content_maintype() == "application"
        and (subtype == "json" or subtype.endswith("+json"))
    )
