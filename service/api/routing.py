"""ASGI middleware around routing: methods that every route has in addition to its own, and the prefix of a proxy."""

from collections.abc import Awaitable, Callable, Iterable

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY_TARGET = "*"  # the target of OPTIONS about the server as a whole (RFC 9110, section 9.3.7)


class Methods:
    """Answers OPTIONS, completes `Allow`, and passes HEAD on as GET; the server sends that answer without its body.

    routes: gives the routes of the application when it runs.
    """

    def __init__(self, app: ASGIApp, routes: Callable[[], Iterable[BaseRoute]]) -> None:
        self.app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer instead of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            allowed = "GET, HEAD, OPTIONS, POST" if scope["path"] == ANY_TARGET else self._allowed(scope)
            if allowed:
                await Response(status_code=204, headers={"Allow": allowed})(scope, receive, send)
                return

        asked = {**scope}  # routing changes it

        def with_all(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start" and message["status"] == 405:
                MutableHeaders(scope=message)["Allow"] = self._allowed(asked)
            return send(message)

        # The server itself keeps another scope, in which the request is HEAD.
        passed = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        await self.app(passed, receive, with_all)

    def _allowed(self, scope: Scope) -> str:
        """The methods of a path, separated by commas; empty if there is no such path."""
        methods: set[str] = set()
        for route in self._routes():
            methods |= _methods(route, scope)
        if "GET" in methods:
            methods.add("HEAD")
        return ", ".join(sorted({*methods, "OPTIONS"})) if methods else ""


def _methods(route: BaseRoute, scope: Scope) -> set[str]:
    """The methods of one route, or of a router's routes, if they match the path."""
    included = getattr(route, "original_router", None)  # newer FastAPI keeps a router as one route
    if included is not None:
        return set().union(*(_methods(one, scope) for one in included.routes))
    if route.matches(scope)[0] is Match.NONE:
        return set()
    return {"GET"} if isinstance(route, Mount) else set(getattr(route, "methods", None) or ())


def without_prefix(path: str, prefix: str) -> str:
    """The path without the prefix, if it begins with it."""
    rest = path.removeprefix(prefix)
    return (rest or "/") if rest[:1] in ("", "/") else path


class WithoutPrefix:
    """The outermost middleware: all others see the paths of the routes, whatever the proxy sends."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a path without the prefix."""
        if scope["type"] == "http":
            scope["path"] = without_prefix(scope["path"], self._prefix)
        await self.app(scope, receive, send)


class WithPrefix:
    """The innermost middleware: routes, which make URLs, see the prefix in `root_path` and before the path, as in
    ASGI."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with the prefix, and remove the prefix afterwards."""
        if scope["type"] != "http" or not self._prefix:
            await self.app(scope, receive, send)
            return
        before = {"path": scope["path"], "root_path": scope.get("root_path", "")}
        scope.update(path=self._prefix + scope["path"], root_path=self._prefix)
        try:
            await self.app(scope, receive, send)
        finally:
            scope.update(before)
