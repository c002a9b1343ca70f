"""The route of embeddings: read in a thread of its own, in turns with other work, and never in place of a text's."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from service.api.openapi import errors
from service.api.pieces import ENTRIES, json_answer
from service.api.promises import check_promises
from service.api.request_fields import asked_model, ignored_fields, origin_of
from service.api.streaming import attended
from service.embeddings.schemas import EmbeddingRequest, Embeddings
from service.embeddings.vectors import Vectors
from service.engine.engine import Engine
from service.engine.text_request import TextRequest
from service.inference.cost import check_length
from service.inference.texts import INSTANT, prepared
from service.models.model_registry import ModelRegistry
from service.settings import Settings

PLAIN = SamplingParameters()


class EmbeddingRoutes:
    """Answers POST /v1/embeddings."""

    def __init__(self, registry: ModelRegistry, engine: Engine, settings: Settings) -> None:
        self.registry, self.engine, self.settings = registry, engine, settings

    async def create(self, body: EmbeddingRequest, request: Request) -> Response:
        """Turn texts into vectors: what the network carries after each, or on average while it reads it.

        A text's vector depends on the model, the text and the options alone: not on the texts beside it, nor on who
        else is served. Fields that are not known are named in the header X-Unroll-Ignored-Fields.
        """
        model = await asked_model(self.registry, body.model, request)
        check_promises(body.model_extra)
        try:
            check_length(max(map(len, body.input)), self.settings)
            vectors = Vectors(body, model, self.settings)
            asked = TextRequest(prompts=body.input, parameters=PLAIN, max_tokens=0, **origin_of(request))
            self.engine.expect(asked)
            if asked.lease is not None:
                asked.lease.grow(vectors.nbytes)
            steps = vectors.embedder.steps(body.input)
            # beyond what the event loop would do by itself: even a short text takes it some milliseconds
            found = await attended(request, prepared(self.engine, steps, INSTANT + 1, asked.arrived, asked.caller))
        except ParameterError as error:
            if error.parameter != "prompt":
                raise
            raise ParameterError("input", str(error).replace("prompt", "text")) from error
        counts = model.engine_model.counts
        counts.embedded += len(body.input)
        counts.embedded_tokens += vectors.embedder.tokens
        answer = vectors.answer(vectors.cut(found))
        instant = found.size <= ENTRIES
        return await json_answer(answer, instant, self.engine, request, ignored_fields(body.model_extra or ()))


def router(registry: ModelRegistry, engine: Engine, settings: Settings) -> APIRouter:
    """The route of embeddings."""
    routes = APIRouter()
    routes.add_api_route(
        "/v1/embeddings",
        EmbeddingRoutes(registry, engine, settings).create,
        methods=["POST"],
        tags=["text"],
        summary="Turn texts into vectors",
        response_model=Embeddings,
        responses={
            200: {"description": "The vectors."},
            **errors(400, 404, 409, 413, 415, 429, 500, 503, 504),
        },
    )
    return routes
