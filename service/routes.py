"""The service's routes, and what each may answer."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from service.engine import Engine
from service.errors import UnknownModel
from service.openai_completions import Completions
from service.openai_schemas import Completion
from service.schemas import ErrorBody, ModelCard, ModelList, event_schema
from service.served_model import ServedModel
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

DESCRIPTIONS = {
    400: "A field is missing or outside its limits, or the body is not JSON; `param` names the field.",
    404: "There is no such model.",
    413: "The body is too large.",
    415: "The body is not announced as application/json.",
    429: "The queue is full; Retry-After says in how many seconds to try again.",
    500: "The server failed; it is logged there.",
    503: "The server is starting, stopping or broken; Retry-After says in how many seconds to try again.",
    504: "The text was not finished in time; ask for less, or later.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of a route's error answers; "default" keeps FastAPI from promising a 422 of its own."""
    documented: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": DESCRIPTIONS[status]} for status in statuses
    }
    for status in {429, 503}.intersection(statuses):
        documented[status]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return {**documented, "default": {"model": ErrorBody, "description": "Any other error, in the same shape."}}


class Information:
    """Answers what is served."""

    def __init__(self, model: ServedModel) -> None:
        self.card = ModelCard(id=model.name, created=model.created)

    async def models(self) -> ModelList:
        """The models that can be asked for: the one that is served."""
        return ModelList(data=[self.card])

    async def model(self, model: Annotated[str, Path(description="The model's name.")]) -> ModelCard:
        """One model by its name."""
        if model != self.card.id:
            raise UnknownModel(f"There is no model {model[:100]!r}; this server has {self.card.id!r}.")
        return self.card


def router(model: ServedModel, engine: Engine, settings: Settings) -> APIRouter:
    """All routes, answering with one model and its engine."""
    completions = Completions(model, engine, settings)
    information = Information(model)
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
