"""POST /v1/score: how likely texts are, from a word to a book, alone or ranked among others."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from model.errors import ParameterError
from model.online_memory.weights import lacking
from model.sampling.parameters import SamplingParameters
from service.analysis.score_answer import ScoreAnswer
from service.analysis.score_lines import MEDIA_TYPE, WORTH_KEEPING, LineScores, is_lines
from service.analysis.score_schemas import MOST_DETAILS, ScoreRequest, Scores
from service.api.openapi import errors, event_schema
from service.api.pieces import json_answer
from service.api.promises import check_promises
from service.api.request_fields import asked_model, beginning_of, ignored_fields, origin_of
from service.api.sse import EventIds, event_ids, resume_point
from service.api.streaming import Opened, Pace, attended, begin, open_stream, openai_error, prepare
from service.engine.engine import Engine
from service.engine.text_request import TextRequest
from service.inference.cost import score_bytes, text_bytes
from service.inference.served_model import ServedModel
from service.inference.state_tokens import StateTokens
from service.inference.texts import INSTANT, Texts, prepared
from service.models.model_registry import ModelRegistry
from service.process.background import one_step
from service.request_context import request_context
from service.settings import Settings

PROGRESS_SECONDS = 0.5  # between two events of a stream while texts are read

STREAM_EXAMPLE = """\
data: {"object":"score.progress","tokens":0,"total_tokens":7}
id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.0

data: {"object":"score","model":"shakespeare","results":[{"index":0,"characters":6,"tokens":6,"bits":9.5,\
"bits_per_character":1.583,"nats_per_character":1.097,"bits_per_byte":1.583,"unseen_characters":0,"anomaly":null,\
"details":null}],"ranking":{"total":[0],"per_character":[0]},"anomaly_note":"The checkpoint has no held-out passages.",\
"usage":{"prompt_tokens":6,"completion_tokens":0,"total_tokens":6,"prompt_tokens_details":{"cached_tokens":0,\
"unseen_characters":0}}}
id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.usage

id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.done
data: [DONE]

"""
STREAM = {
    "schema": event_schema(
        "The data of each event is a Progress as JSON; then come the Scores, and [DONE] at the end. An error in the "
        "middle is an event whose data is an ErrorBody.",
        "Progress",
        "Scores",
        "ErrorBody",
    ),
    "example": STREAM_EXAMPLE,
}

LINE_EXAMPLE = """\
"To be, or not to be"
{"text": "To bee or knot to bee", "context": "HAMLET:\\n"}
"""
LINES = {
    "schema": {
        "description": "A text on each line, as a JSON string or a ScoreLine; any number of them, each as long "
        "as a body may be. They are read as they come.",
        "anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/ScoreLine"}],
    },
    "example": LINE_EXAMPLE,
}
LINES_MODEL = {
    "name": "model",
    "in": "query",
    "required": False,
    "schema": {"type": "string"},
    "description": "The model that reads a body of lines; of a body of JSON its field `model` names it.",
}
SCORED_LINES = {
    "schema": {
        "description": "To a body of lines: a LineScore for each line that is not blank, in order, as soon as it "
        "is read.",
        "anyOf": [{"$ref": "#/components/schemas/LineScore"}],
    },
}


class LinesOrJson(APIRoute):
    """A route whose handler takes JSON, and whose `lines` take bodies of lines."""

    lines: Callable[[Request], Awaitable[Response]]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of both."""
        whole = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await (self.lines(request) if is_lines(request.headers) else whole(request))

        return handle


class ScoreRoutes:
    """Answers /v1/score."""

    def __init__(self, registry: ModelRegistry, engine: Engine, settings: Settings, states: StateTokens) -> None:
        self.registry, self.engine, self.states = registry, engine, states
        self.most_texts = settings.max_rows + settings.max_waiting
        self.most_work = settings.max_work
        self.pace = Pace(settings.first_comment_seconds, PROGRESS_SECONDS)

    async def score(self, body: ScoreRequest, request: Request) -> Response:
        """Score how likely texts are: bits per character, which is the likeliest, and how unusual each is.

        A text's score depends only on the text and the context: not on other texts, nor on other requests. For any
        number of texts send lines (application/x-ndjson): each is answered by a line as soon as it is read.
        Texts are read side by side, and a text of any length in constant memory. Fields that are not known are named in
        the header X-Unroll-Ignored-Fields.
        """
        model = await asked_model(self.registry, body.model, request, body.state)
        check_promises(body.model_extra)
        self._check(body)
        if body.memory and model.memory is None:
            raise ParameterError("memory", lacking(model.tokenizer.frame.items))
        headers = ignored_fields(body.model_extra or ())
        if body.stream:
            ids = await event_ids(request, model, 0, resume_point(request))
            if ids.complete:
                return Response(status_code=204)
            opening, instant = self._open(model, body, request, ids), _size(body) <= WORTH_KEEPING
            return await open_stream(opening, instant, request, self.pace, partial(openai_error, ids), headers)
        answer, texts = await self._prepare(model, body, request)
        answer.grown(await begin(texts, request))
        texts.release()
        return await json_answer(answer.parts(), not answer.slow, self.engine, request, headers)

    async def _open(self, model: ServedModel, body: ScoreRequest, request: Request, ids: EventIds) -> Opened:
        """Begin to read the texts of a stream."""
        answer, texts = await self._prepare(model, body, request)
        answer.ids = ids
        texts.submit()
        return Opened(texts, answer, [])

    async def _prepare(self, model: ServedModel, body: ScoreRequest, request: Request) -> tuple[ScoreAnswer, Texts]:
        """The texts of a request, ready to be submitted, and what takes their scores."""
        size, origin = _size(body), origin_of(request)
        if origin["lease"] is not None:
            origin["lease"].grow(self._bytes(body))
        beginning = beginning_of(body.state, model, self.states, origin)
        sign = partial(self.states.sign, model=model, holder=origin["namespace"])
        make = one_step(partial(ScoreAnswer, model, body, beginning, sign))
        making = prepared(self.engine, make, size, origin["arrived"], origin["caller"])
        answer = await (making if size <= INSTANT else attended(request, making))
        if answer.before.context_tokens >= WORTH_KEEPING and not body.memory and self.engine.cache.capacity:
            answer.cached = await read_before(model, self.engine, answer.before.text, request)
        texts = await prepare(model, self.engine, answer.request(origin), request)
        answer.expect(texts)
        return answer, texts

    async def lines(self, request: Request) -> Response:
        """Score texts that come one a line, in any number, by the model that the query names."""
        context, name = request_context(request.scope), request.query_params.get("model")
        model = self.registry.loaded(name, context.models)
        if model is None:  # nobody listens meanwhile whether the client leaves: that would take the body
            model = await self.registry.load(name, context.models, context.arrived)
        scores = LineScores(model, self.engine, request, self.most_work, self.most_texts)
        await scores.prepare()
        return scores

    def _bytes(self, body: ScoreRequest) -> int:
        """Memory of what is made of the texts before they become prompts, and of scores that are kept."""
        top = body.top_logprobs if body.details or body.top_logprobs else None
        prompts = [*body.texts, *[body.context or ""] * len(body.texts)]
        return text_bytes(prompts) + score_bytes(prompts, top)

    def _check(self, body: ScoreRequest) -> None:
        """Check what depends on several fields together."""
        characters, context = sum(map(len, body.texts)), len(body.context or "")
        if body.state is not None and body.context:
            raise ParameterError("state", "The texts come after a state or after a context; leave out one of the two.")
        if len(body.texts) > self.most_texts:
            message = f"These are {len(body.texts)} texts; this server holds {self.most_texts} at once, send fewer."
            raise ParameterError("texts", message)
        if body.details or body.top_logprobs:
            most = MOST_DETAILS // (2 + body.top_logprobs)
            if characters > most:
                raise ParameterError(
                    "details",
                    f"These are details of {characters:,} characters; with top_logprobs {body.top_logprobs} ask for "
                    f"those of at most {most:,} at a time, and for the rest in other requests with the text before as "
                    "`context`; or leave out `details`.",
                )
        work = characters + context * len(body.texts)
        if work > self.most_work:
            raise ParameterError(
                "context" if context * len(body.texts) > characters else "texts",
                f"This would read {work:,} characters, the context with every text; this server's max_work is "
                f"{self.most_work:,}: send fewer texts at a time, or a shorter context.",
            )


def _size(body: ScoreRequest) -> int:
    """Characters to be read, each text and the context once."""
    return sum(map(len, body.texts)) + len(body.context or "")


async def read_before(model: ServedModel, engine: Engine, text: str, request: Request) -> int:
    """Read what stands before texts once; they then find the state after it in the prefix cache.

    Returns how many ids of it were found there already.
    """
    wanted = TextRequest(prompts=[text], parameters=SamplingParameters(), max_tokens=1, **origin_of(request))
    context = await prepare(model, engine, wanted, request)
    await begin(context, request)
    context.release()
    return context.usage().cached_tokens


def router(registry: ModelRegistry, engine: Engine, settings: Settings, states: StateTokens) -> APIRouter:
    """The route for scores."""
    answers = ScoreRoutes(registry, engine, settings, states)
    routes = APIRouter(tags=["text"])

    class ScoreRoute(LinesOrJson):
        lines = staticmethod(answers.lines)

    routes.add_api_route(
        "/v1/score",
        answers.score,
        methods=["POST"],
        summary="Tell how likely texts are",
        response_model=Scores,
        responses={
            200: {
                "description": "The scores, or a stream on the way to them.",
                "content": {"text/event-stream": STREAM, MEDIA_TYPE: SCORED_LINES},
            },
            **errors(400, 403, 404, 409, 413, 415, 429, 500, 503, 504),
        },
        route_class_override=ScoreRoute,
        openapi_extra={"requestBody": {"content": {MEDIA_TYPE: LINES}}, "parameters": [LINES_MODEL]},
    )
    return routes
