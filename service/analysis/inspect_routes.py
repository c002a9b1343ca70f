"""POST /v1/inspect and what belongs to it: a look inside the model while it reads a text."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

from fastapi import APIRouter, Request
from starlette.responses import Response

from model.errors import ParameterError
from service.analysis.influence import InfluenceAnswer
from service.analysis.inspect_answer import InspectAnswer
from service.analysis.inspect_schemas import (
    MOST_COMPARED,
    MOST_NUMBERS,
    Influence,
    InfluenceRequest,
    Inspection,
    InspectRequest,
    OneText,
    SearchRequest,
    UnitSearch,
)
from service.analysis.score_lines import WORTH_KEEPING
from service.analysis.score_routes import read_before
from service.analysis.unit_search import UNIT_BYTES, SearchAnswer
from service.api.openapi import errors
from service.api.pieces import json_answer
from service.api.promises import check_promises
from service.api.request_fields import asked_model, ignored_fields, origin_of
from service.api.streaming import attended, begin, prepare
from service.engine.engine import Engine
from service.engine.text_request import TextRequest
from service.inference.cost import SCORE_BYTES, WIDEST, score_bytes, text_bytes
from service.inference.served_model import ServedModel
from service.inference.texts import INSTANT, Texts, prepared
from service.models.model_registry import ModelRegistry
from service.process.background import one_step
from service.settings import Settings

CALL_BYTES = 2_000_000  # of what one call reports of a row, until it is taken


class Answer(Protocol):
    """An answer that is made while its texts are read. common: what is read before them, once for later requests.

    cached: ids of it that came from the prefix cache.
    """

    common: str
    cached: int

    def request(self, origin: Mapping[str, Any]) -> TextRequest:
        """The request to the engine."""

    def expect(self, texts: Texts) -> None:
        """Prepare for what comes."""

    def parts(self) -> Iterator[str]:
        """The answer as JSON, once the texts are read."""


class InspectRoutes:
    """Answers /v1/inspect, /v1/inspect/units and /v1/inspect/influence."""

    def __init__(self, registry: ModelRegistry, engine: Engine, settings: Settings) -> None:
        self.registry, self.engine = registry, engine
        self.most_work = settings.max_work

    async def inspect(self, body: InspectRequest, request: Request) -> Response:
        """Tell of every character of a text how surprising it was, what else was likely, and what units did there.

        Surprise, rank, entropy and alternatives are those of /v1/score, and are of the moment before the character is
        read; the numbers of units are those after it.
        """
        model = await asked_model(self.registry, body.model, request)
        self._check_work(body)
        numbers = 3 + body.top_logprobs + len(body.units)
        if len(body.text) * numbers > MOST_NUMBERS:
            message = (
                f"These are {len(body.text):,} characters; with top_logprobs {body.top_logprobs} and {len(body.units)} "
                f"units inspect at most {MOST_NUMBERS // numbers:,} at a time, with the text before as `context`."
            )
            raise ParameterError("text", message)
        kept = score_bytes([body.text], body.top_logprobs) + SCORE_BYTES * WIDEST * len(body.text) * len(body.units)
        return await self._answer(model, body, request, partial(InspectAnswer, model, body), kept, numbers)

    async def search(self, body: SearchRequest, request: Request) -> Response:
        """Find the units of the network that follow a feature of the text most closely.

        Such as one that is high inside quotation marks (Karpathy, Johnson and Fei-Fei, 2015). The text is read once, in
        memory that does not grow with it. The more text, the less a correlation owes to chance.
        """
        model = await asked_model(self.registry, body.model, request)
        self._check_work(body)
        kept = model.decoder.config.units() * UNIT_BYTES
        return await self._answer(model, body, request, partial(SearchAnswer, model, body), kept, 1)

    async def influence(self, body: InfluenceRequest, request: Request) -> Response:
        """Erase or replace one character of a text, and tell how the model's view of the later ones changes."""
        model = await asked_model(self.registry, body.model, request)
        self._check_work(body)
        size = model.tokenizer.size
        if body.position >= len(body.text):
            message = f"The text has {len(body.text):,} characters; choose a position from 0 to one less than that."
            raise ParameterError("position", message)
        if body.window * size > MOST_COMPARED:
            message = f"The vocabulary has {size:,} ids; compare at most {MOST_COMPARED // size:,} characters."
            raise ParameterError("window", message)
        window = body.text[body.position + 1 : body.position + 1 + body.window]
        kept = 2 * SCORE_BYTES * size * len(window) * (1 if window.isascii() else WIDEST)
        making = partial(InfluenceAnswer, model, body)
        return await self._answer(model, body, request, making, kept, size)

    async def _answer(
        self,
        model: ServedModel,
        body: OneText,
        request: Request,
        make: Callable[[], Answer],
        kept: int,
        numbers: int,
    ) -> Response:
        """Charge `kept` bytes beside the text, read it, and write the answer: so many numbers for each character."""
        check_promises(body.model_extra)
        size = len(body.text) + len(body.context or "")
        origin = origin_of(request)
        if origin["lease"] is not None:
            origin["lease"].grow(kept + CALL_BYTES + 2 * text_bytes([body.text, body.context or ""]))
        making = prepared(self.engine, one_step(make), size, origin["arrived"], origin["caller"])
        answer = await (making if size <= INSTANT else attended(request, making))
        if len(answer.common) >= WORTH_KEEPING and self.engine.cache.capacity:
            answer.cached = await read_before(model, self.engine, answer.common, request)
        texts = await prepare(model, self.engine, answer.request(origin), request)
        answer.expect(texts)
        await begin(texts, request)
        texts.release()
        instant = len(body.text) * numbers <= INSTANT
        return await json_answer(answer.parts(), instant, self.engine, request, ignored_fields(body.model_extra or ()))

    def _check_work(self, body: OneText) -> None:
        """Raise ParameterError for more to read than the settings allow."""
        work = len(body.text) + len(body.context or "")
        if work > self.most_work:
            message = f"This would read {work:,} characters; this server's max_work is {self.most_work:,}: send less."
            raise ParameterError("text", message)


def router(registry: ModelRegistry, engine: Engine, settings: Settings) -> APIRouter:
    """The routes that look inside."""
    answers = InspectRoutes(registry, engine, settings)
    routes = APIRouter(tags=["text"])
    for path, handler, kind, summary in (
        ("/v1/inspect", answers.inspect, Inspection, "See each character as the model does"),
        ("/v1/inspect/units", answers.search, UnitSearch, "Find units that respond to a feature"),
        ("/v1/inspect/influence", answers.influence, Influence, "See how far a character is felt"),
    ):
        routes.add_api_route(
            path,
            handler,
            methods=["POST"],
            summary=summary,
            response_model=kind,
            responses={200: {"description": "The answer."}, **errors(400, 404, 409, 413, 415, 429, 500, 503, 504)},
        )
    return routes
