"""The application: settings in, all that serves their models out, as one value."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from model.decoding.decoder import Decoder
from service.analysis import inspect_routes, score_routes, token_routes
from service.analysis.score_schemas import LineScore, Progress, ScoreLine
from service.api import front_page
from service.api.error_responses import ErrorResponses, Shape
from service.api.openapi import add_document, described
from service.api.routing import Methods, WithoutPrefix, WithPrefix
from service.chat import routes as chat_routes
from service.chat.schemas import ChatCompletionChunk
from service.embeddings import routes as embedding_routes
from service.engine.engine import Engine
from service.inference.state_tokens import StateTokens, secrets_of
from service.models.model_registry import ModelRegistry
from service.monitoring import health, metrics
from service.monitoring.access_log import AccessLog, paths_of
from service.monitoring.health import Reports
from service.monitoring.metrics import Metrics
from service.openai import routes as openai_routes
from service.openai.body_route import Raising, Straight
from service.openai.completions import Completions
from service.playground import routes as page_routes
from service.playground import static_files
from service.process import allocator
from service.process.ledger import Ledger
from service.process.memory import Headroom, Memory, default_budget
from service.security.api_keys import ApiKeys
from service.security.auth import Auth
from service.security.body_limit import BodyLimit
from service.security.caller_pace import CallerPace
from service.security.rate_limit import RateLimit, RateLimiter
from service.security.security_headers import SecurityHeaders
from service.settings import Settings, listed
from service.siblings.siblings import Siblings
from service.tgi import errors as tgi_errors
from service.tgi import routes as tgi_routes

DESCRIPTION = """\
Continues text one character at a time with a recurrent language model, in the dialect of OpenAI's completions.

The same model, seed and parameters give the same text: streamed or not, alone or among others."""

TAGS = [
    {"name": "text", "description": "Continue texts, and score them."},
    {"name": "tokens", "description": "Texts as ids of characters and bytes, and back."},
    {"name": "models", "description": "What is served."},
    {"name": "text-generation-inference", "description": "The same in the dialect of that server."},
    {"name": "operation", "description": "How the server is, for those who run it."},
]

TRACED = find_spec("opentelemetry.sdk") is not None  # which alone can have anything traced

# How errors look on the paths of other dialects than OpenAI's.
ERROR_SHAPES: dict[str, Shape] = {**tgi_errors.ERROR_SHAPES}


class Untraced(FastAPI):
    """FastAPI without its own telemetry, for which it looks into the environment at each request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await Starlette.__call__(self, scope, receive, send)


@dataclass(frozen=True, slots=True)
class Application:
    """What serves; all of it is made at the start and lives as long as the server.

    asgi: answers requests; the engine runs while it does. registry: of the models. ledger: the bytes of all requests.
    beat: tells other processes behind the port how this one is; to be called some times a second. pace: of the
    requests of each caller.
    """

    asgi: FastAPI
    registry: ModelRegistry
    engine: Engine
    ledger: Ledger
    metrics: Metrics
    beat: Callable[[], None]
    pace: CallerPace


def create_application(
    settings: Settings,
    decoder: type[Decoder] = Decoder,
    keys: ApiKeys | None = None,
    siblings: Siblings | None = None,
) -> Application:
    """An application that serves the models of the settings.

    keys: of those who may use it; None = the keys of the settings. siblings: the processes behind its port, where there
    are several.
    Raises CheckpointError and SettingsError, before anything is started, if a model that they name cannot be served.
    """
    engine = Engine(settings)
    registry = ModelRegistry(settings, engine, decoder)
    ledger = _ledger(settings, engine, siblings)
    reports = Reports(registry, engine, ledger, settings, siblings)
    metrics_ = Metrics(registry, engine, ledger, lambda: reports.condition.ready, siblings)

    def beat() -> None:
        if siblings is not None:
            siblings.board.write(reports.vitals())
            if siblings.snapshots.wanted:
                siblings.snapshots.answer(metrics_.snapshot)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001
        engine.start(asyncio.get_running_loop())
        registry.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            engine.stop()
            await registry.close()

    asgi = (FastAPI if TRACED else Untraced)(
        title="Unroll",
        version=version("unroll"),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # `add_document` has its own
        docs_url=None,  # FastAPI's own pages fetch scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=TAGS,
    )
    made = Application(asgi, registry, engine, ledger, metrics_, beat, CallerPace(engine.has_others, engine.waits))
    states = StateTokens(
        secrets_of(settings), settings.state_seconds, passing=None if siblings is None else siblings.secret
    )
    _add_routes(made, reports, states, settings)
    errors = ErrorResponses(ERROR_SHAPES)
    errors.install(asgi)
    keys = keys or ApiKeys(settings)
    keys.tell_of_unknown_models(registry.knows, registry.offer)
    _add_middleware(made, keys, errors, settings, siblings)
    streamed = (Progress, ScoreLine, LineScore, *((ChatCompletionChunk,) if settings.chat else ()))
    asgi.openapi = described(  # type: ignore[method-assign]
        asgi.openapi, lambda: registry.largest_vocabulary, only_in_streams=streamed
    )
    return made


def _ledger(settings: Settings, engine: Engine, siblings: Siblings | None) -> Ledger:
    """The bytes of all requests, within what the machine has; under pressure the prefix cache is given up for them."""
    memory = Memory()

    def relieve() -> None:
        engine.cache.clear()
        allocator.trim()

    budget = settings.memory_budget_bytes or default_budget(memory)
    return Ledger(budget, Headroom(memory, relieve=relieve), None if siblings is None else siblings.memory)


def _add_routes(made: Application, reports: Reports, states: StateTokens, settings: Settings) -> None:
    completions = Completions(made.registry, made.engine, settings, states)
    for routes in (
        front_page.router(made.registry.default_name, page_routes.front_page if settings.page else None),
        openai_routes.router(made.registry, settings, completions),
        chat_routes.router(made.registry, settings, completions),
        embedding_routes.router(made.registry, made.engine, settings),
        token_routes.router(made.registry, made.engine, settings),
        tgi_routes.router(made.registry, made.engine, settings, states),
        score_routes.router(made.registry, made.engine, settings, states),
        inspect_routes.router(made.registry, made.engine, settings),
        health.router(reports),
        metrics.router(made.metrics),
    ):
        made.asgi.include_router(routes)
    if settings.page:
        made.asgi.include_router(page_routes.router())
    add_document(made.asgi)
    front_page.add_documentation(made.asgi)
    made.asgi.state.paths = paths_of(made.asgi)
    made.asgi.router.middleware_stack = Raising(made.asgi.router.middleware_stack)


def _add_middleware(
    made: Application, keys: ApiKeys, errors: ErrorResponses, settings: Settings, siblings: Siblings | None
) -> None:
    """Put the middleware around the routes. The last that is added is the outermost."""
    app = made.asgi
    app.add_middleware(WithPrefix, prefix=settings.prefix)
    app.add_middleware(Methods, routes=lambda: app.routes)
    if not settings.prefix:
        app.add_middleware(Straight, routes=lambda: app.routes)
    most, seconds = settings.max_body_bytes, settings.body_seconds
    pace = made.pace
    app.add_middleware(BodyLimit, max_bytes=most, seconds=seconds, ledger=made.ledger, pace=pace)
    page = frozenset(static_files.files()) if settings.page else frozenset()
    app.add_middleware(RateLimit, limiter=_limiter(settings, siblings), errors=errors, page=page)
    app.add_middleware(Auth, keys=keys, hosts=settings.hosts, errors=errors, page=page, pace=pace)
    stack = app.build_middleware_stack

    def observed() -> ASGIApp:
        """Around Starlette's own outermost layer, so that answers to internal errors pass it, too."""
        inner = stack()
        if settings.cors_origins is not None:  # around Auth, as a browser's preflight request has no key
            inner = CORSMiddleware(inner, **_cors(settings.cors_origins))
        secure = SecurityHeaders(inner, settings.tls_certificate is not None)
        log = AccessLog(secure, made.metrics, app.state.paths, settings.access_log)
        return WithoutPrefix(log, settings.prefix)

    app.build_middleware_stack = observed  # type: ignore[method-assign]


def _limiter(settings: Settings, siblings: Siblings | None) -> RateLimiter:
    rate, at_once = settings.key_requests_per_minute, settings.key_concurrent_requests
    return RateLimiter(rate, at_once, time.monotonic, None if siblings is None else siblings.requests)


def _cors(origins: str) -> dict[str, Any]:
    """Pages of these origins may read answers. They have to send a key themselves, as cookies are not used."""
    return {
        "allow_origins": listed(origins),
        "allow_methods": ["GET", "HEAD", "OPTIONS", "POST"],
        "allow_headers": ["*"],  # clients send many of their own, as x-stainless-os
        "expose_headers": ["X-Request-Id", "X-Unroll-Ignored-Fields", "Retry-After", *tgi_routes.HEADERS],
        "allow_private_network": True,
    }
