"""The application: a checkpoint and settings in, an ASGI application out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from model.decoder import Decoder
from service import error_responses, score, tgi, tokens
from service.body_limit import BodyLimit
from service.engine import Engine
from service.error_responses import Shape
from service.openapi import described
from service.routes import router
from service.served_model import ServedModel
from service.settings import Settings

DESCRIPTION = """\
Continues text one character at a time with a recurrent language model, in the dialect of OpenAI's completions.

The same model, seed and parameters give the same text: streamed or not, alone or among others."""

# How errors look on the paths of other dialects than OpenAI's.
ERROR_SHAPES: dict[str, Shape] = {**tgi.ERROR_SHAPES}


def create_app(settings: Settings, decoder: type[Decoder] = Decoder) -> FastAPI:
    """An application that serves the checkpoint the settings name; its engine runs while the application does.

    `app.state` holds the `model` and the `engine`, for whoever runs the application.
    Raises CheckpointError, before anything is started, on a checkpoint that cannot be served.
    """
    model = ServedModel.load(settings, decoder)
    engine = Engine(model.decoder, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001
        engine.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            engine.stop()

    # FastAPI's own pages fetch scripts from the internet and offer to validate there; these are the same without.
    app = FastAPIOffline(
        title="Unroll",
        version=version("unroll"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        swagger_ui_parameters={"validatorUrl": None},
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.include_router(router(model, engine, settings))
    app.include_router(tokens.router(model, settings))
    app.include_router(tgi.router(model, engine, settings))
    app.include_router(score.router(model, engine, settings))
    error_responses.install(app, ERROR_SHAPES)
    app.openapi = described(app.openapi, model.tokenizer.size)  # type: ignore[method-assign]
    app.state.model, app.state.engine = model, engine
    return app
