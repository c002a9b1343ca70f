"""GET / for a browser, and the files that the page consists of."""

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.api.routing import without_prefix
from service.playground.static_files import PREFIX, StaticFile, files, index

FOREVER = "public, max-age=31536000, immutable"  # a file with another content has another address
ASK_AGAIN = "no-cache"


def front_page(request: Request) -> Response:
    """The page for people, which needs no key; all that it shows comes from routes that do."""
    root = request.scope.get("root_path", "")
    return _answer(request, index(root), ASK_AGAIN, "Accept, Accept-Encoding")


def router() -> APIRouter:
    """The route of the page's files."""
    routes = APIRouter()
    known = files()

    async def page_file(request: Request) -> Response:
        """One file of the page; 404 for any other path, also one of an older version."""
        path = without_prefix(request.scope["path"], request.scope.get("root_path", ""))
        if path not in known:
            raise HTTPException(404)
        return _answer(request, known[path], FOREVER, "Accept-Encoding")

    routes.add_api_route(PREFIX + "{name:path}", page_file, methods=["GET"], include_in_schema=False)
    return routes


def _answer(request: Request, file: StaticFile, cache: str, vary: str) -> Response:
    headers = {"Cache-Control": cache, "Vary": vary}
    packed = "gzip" in request.headers.get("accept-encoding", "")
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(file.packed if packed else file.plain, media_type=file.kind, headers=headers)
