"""The routes of OpenAI's dialect, and what each may answer."""

from typing import Annotated

from fastapi import APIRouter, Path

from service.api.openapi import errors, event_schema
from service.api.schemas import LARGEST_MAX_TOKENS
from service.engine.engine import Engine
from service.errors import UnknownModel
from service.inference.served_model import ServedModel
from service.openai.completions import Completions
from service.openai.schemas import Completion, FileDigests, ModelCard, ModelList
from service.settings import Settings

STREAM_EXAMPLE = """\
data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"shakespeare","seed":1,"choices":[{"index":0,\
"text":" there","logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}

data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"shakespeare","seed":1,"choices":[{"index":0,\
"text":" was","logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":null}

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

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        digests = model.digests
        self.card = ModelCard(
            id=model.name,
            created=model.created,
            max_model_len=settings.max_prompt_characters + LARGEST_MAX_TOKENS,
            digest=digests.model,
            digests=FileDigests(weights=digests.weights, tokenizer=digests.tokenizer, recorded=digests.recorded),
        )

    async def models(self) -> ModelList:
        """The models that can be asked for: the one that is served."""
        return ModelList(data=[self.card])

    async def model(self, model: Annotated[str, Path(description="The model's name.")]) -> ModelCard:
        """One model by its name."""
        if model != self.card.id:
            raise UnknownModel(f"There is no model {model[:100]!r}; this server has {self.card.id!r}.")
        return self.card


def router(model: ServedModel, engine: Engine, settings: Settings) -> APIRouter:
    """The routes of this dialect, for one model and its engine."""
    completions = Completions(model, engine, settings)
    information = Information(model, settings)
    routes = APIRouter()
    routes.add_api_route(
        "/v1/completions",
        completions.create,
        methods=["POST"],
        tags=["text"],
        summary="Continue a prompt",
        response_model=Completion,
        responses={
            200: {"description": "The texts, or a stream of their pieces.", "content": {"text/event-stream": STREAM}},
            **errors(400, 404, 413, 415, 429, 500, 503, 504),
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
        responses=errors(404),
    )
    return routes
