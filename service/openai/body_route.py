"""A route whose only argument beside the request is a JSON body: read and checked as FastAPI does, with less work."""

import email.message
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import lru_cache
from typing import Any, get_type_hints

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.error_responses import UNREADABLE
from service.request_context import header

RAISED = "unroll.raised"  # in an ASGI scope: what was raised before routing

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class BodyRoute(APIRoute):
    """A route to `async def endpoint(body: Model, request: Request) -> Response`.

    FastAPI documents it as any other. Its own handler solves dependencies and prepares for forms and return values at
    each request, which takes a tenth of the time of a short one.
    """

    def get_route_handler(self) -> Handler:
        """What answers a request."""
        endpoint: Callable[[Any, Request], Awaitable[Response]] = self.endpoint
        model: type[BaseModel] = get_type_hints(endpoint)["body"]

        async def handle(request: Request) -> Response:
            return await endpoint(checked(model, await body_of(request)), request)

        return handle


class Straight:
    """Around routing and what Starlette has around that: answers a POST for the path of a BodyRoute, and lets all else
    pass.

    Routing asks router after router, and makes ready for dependencies that such a route has not. With what is around
    it, it takes a fifth of the time of a short request. Errors are raised again within (`Raising`), where all routes
    raise theirs, so that they are answered as those are.
    """

    def __init__(self, app: ASGIApp, routes: Callable[[], Iterable[BaseRoute]]) -> None:
        self.app = app
        self._of_app = routes
        self._routes: dict[str, tuple[BodyRoute, Handler]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have it routed."""
        if self._routes is None:
            self._routes = {route.path: (route, route.get_route_handler()) for route in _body_routes(self._of_app())}
        found = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        route, handle = found
        scope.update(route=route, endpoint=route.endpoint, path_params={})
        try:
            response = await handle(Request(scope, receive, send))
        except Exception as error:
            scope[RAISED] = error
            await self.app(scope, receive, send)
        else:
            await response(scope, receive, send)


class Raising:
    """In place of routing: raises what was raised where a request was answered without it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise it, or have the request routed."""
        if RAISED in scope:
            raise scope.pop(RAISED)
        await self.app(scope, receive, send)


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
        return json.loads(sent) if is_json(header(request.scope, b"content-type") or "") else sent
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
