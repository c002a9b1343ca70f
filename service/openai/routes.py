"""The routes of OpenAI's dialect, and what each may answer."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from service.api.openapi import errors, event_schema
from service.api.schemas import LARGEST_MAX_TOKENS
from service.models.model_entry import ModelEntry
from service.models.model_registry import Allowed, ModelRegistry
from service.openai.body_route import BodyRoute
from service.openai.completions import Completions
from service.openai.model_schemas import FileDigests, ModelCard, ModelList
from service.openai.schemas import Completion
from service.request_context import request_context
from service.settings import Settings

STREAM_EXAMPLE = """\
data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"shakespeare","seed":1,"choices":[{"index":0,\
"text":" there","logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}
id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.6

data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"shakespeare","seed":1,"choices":[{"index":0,\
"text":" was","logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":null}
id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.10e

id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.done
data: [DONE]

"""
STREAM = {
    "schema": event_schema(
        "The data of each event is a Completion as JSON, whose choices have the text that is new; of the last, [DONE]. "
        "An error in the middle is an event whose data is an ErrorBody.",
        "Completion",
        "ErrorBody",
    ),
    "example": STREAM_EXAMPLE,
}


class Information:
    """Answers which models are served."""

    def __init__(self, registry: ModelRegistry, settings: Settings) -> None:
        self.registry = registry
        self.longest = settings.max_prompt_characters + LARGEST_MAX_TOKENS

    async def models(self, request: Request) -> ModelList:
        """The models that can be asked for, of which a key may be allowed only some."""
        allowed = request_context(request.scope).models
        return ModelList(data=[self._card(entry, allowed) for entry in self.registry.seen_by(allowed)])

    async def model(
        self,
        model: Annotated[str, Path(description="The model's name, another name it has, or NAME@DIGEST.")],
        request: Request,
    ) -> ModelCard:
        """One model by its name."""
        allowed = request_context(request.scope).models
        entry, _ = self.registry.find(model, allowed)
        return self._card(entry, allowed)

    def _card(self, entry: ModelEntry, allowed: Allowed) -> ModelCard:
        facts, digests = entry.facts, entry.facts.digests
        return ModelCard(
            id=entry.name,
            created=facts.created,
            max_model_len=self.longest,
            digest=digests.model,
            digests=FileDigests(weights=digests.weights, tokenizer=digests.tokenizer, recorded=digests.recorded),
            parameters=facts.parameters,
            bits_per_character=dict(facts.held_out_bits),
            loaded=entry.served is not None,
            aliases=self.registry.aliases(entry),
            default=entry is self.registry.default(allowed),
        )


def router(registry: ModelRegistry, settings: Settings, completions: Completions) -> APIRouter:
    """The routes of this dialect."""
    information = Information(registry, settings)
    routes = APIRouter()
    routes.add_api_route(
        "/v1/completions",
        completions.create,
        methods=["POST"],
        route_class_override=BodyRoute,
        tags=["text"],
        summary="Continue a prompt",
        response_model=Completion,
        responses={
            200: {"description": "The texts, or a stream of their pieces.", "content": {"text/event-stream": STREAM}},
            **errors(400, 403, 404, 409, 413, 415, 429, 500, 503, 504),
        },
    )
    routes.add_api_route(
        "/v1/models", information.models, methods=["GET"], tags=["models"], summary="List models", responses=errors()
    )
    routes.add_api_route(
        "/v1/models/{model:path}",
        information.model,
        methods=["GET"],
        tags=["models"],
        summary="Describe a model",
        responses=errors(404, 409),
    )
    return routes
