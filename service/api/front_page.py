"""GET / and /docs: the front page for people and for programs, and the documentation of the API."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.api.openapi import PATH, errors
from service.request_context import request_context

# Swagger UI and its style, from the package fastapi-offline: nothing is fetched from the internet.
STATIC = Path(fastapi_offline.__file__).parent / "static"
STATIC_PATH = "/static-offline-docs"

UI = {
    "validatorUrl": None,  # otherwise Swagger UI sends the document to a validation site
    "defaultModelsExpandDepth": 0,
    "docExpansion": "list",
    "displayRequestDuration": True,
}
# Errors are many and similar: each is one line that a click opens.
FOLDED = """\
<style>
tr.response:not([data-code^="2"]) { cursor: pointer }
tr.response:not([data-code^="2"]) .response-col_status::before { content: "\\25B8\\00A0" }
tr.response[data-open]:not([data-code^="2"]) .response-col_status::before { content: "\\25BE\\00A0" }
tr.response:not([data-code^="2"]):not([data-open])
  :is(.response-controls, .model-example, .headers-wrapper, .response-control-media-type)
  { display: none }
</style>
<script>
document.addEventListener("click", (event) => {
  const row = event.target.closest("tr.response");
  if (row && !event.target.closest(".model-example, select, button, a")) row.toggleAttribute("data-open");
});
</script>
</head>"""


class FrontPage(BaseModel):
    """What this server is, and where it is documented."""

    name: str = Field(default="unroll", description="Always the same.")
    version: str = Field(description="The version of Unroll.")
    model: str | None = Field(description="The model that is used if a request names none.")
    documentation: str = Field(description="Path of the documentation for people.")
    openapi: str = Field(description="Path of the OpenAPI document.")
    health: str = Field(description="Path of the server's state.")


def add_documentation(app: FastAPI) -> None:
    """Add /docs and its files to the application."""
    app.mount(STATIC_PATH, StaticFiles(directory=STATIC), name="static-offline-docs")

    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{PATH}",
            title=app.title,
            swagger_js_url=f"{root}{STATIC_PATH}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{STATIC_PATH}/swagger-ui.css",
            swagger_favicon_url=f"{root}{STATIC_PATH}/favicon.png",
            swagger_ui_parameters=UI,
        )
        return HTMLResponse(bytes(page.body).decode().replace("</head>", FOLDED, 1))

    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)


def asks_for_page(headers: Headers) -> bool:
    """Whether the client is a browser, which shows pages to a person."""
    return "text/html" in headers.get("accept", "")


def router(
    model: Callable[[frozenset[str] | None], str | None], page: Callable[[Request], Response] | None
) -> APIRouter:
    """The route of the path /.

    model: the name of the default among the models that a key may use, if there is one.
    page: the page for browsers; None redirects them to the documentation.
    """
    routes = APIRouter(tags=["operation"])

    async def front_page(request: Request) -> Response:
        """Describe the server to a program; a browser gets the page for people."""
        root = request.scope.get("root_path", "")
        if asks_for_page(request.headers):
            if page is not None:
                return page(request)
            return RedirectResponse(f"{root}/docs", 307, {"Vary": "Accept"})
        about = FrontPage(
            version=version("unroll"),
            model=model(request_context(request.scope).models),
            documentation=f"{root}/docs",
            openapi=f"{root}/openapi.json",
            health=f"{root}/health",
        )
        return Response(about.model_dump_json(), media_type="application/json", headers={"Vary": "Accept"})

    routes.add_api_route(
        "/",
        front_page,
        methods=["GET"],
        summary="Describe the server",
        response_model=FrontPage,
        responses={
            200: {
                "description": "A description of the server; for a browser, the page for people.",
                "content": {"text/html": {"schema": {"type": "string"}}},
            },
            307: {"description": "Redirects a browser to the documentation if the server has no page."},
            **errors(),
        },
    )
    return routes
