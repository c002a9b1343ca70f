"""The dialect of text-generation-inference: its handlers, routes and headers."""

import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from model.errors import ParameterError
from service.api.pieces import json_answer
from service.api.promises import check_promises
from service.api.request_fields import asked_model, beginning_of, ignored_fields, origin_of, random_seed
from service.api.schemas import LARGEST_MAX_TOKENS, LARGEST_N, MOST_PROMPTS, MOST_STOPS
from service.api.sse import EventIds, event_ids, resume_point
from service.api.streaming import EventStream, Opened, Pace, attended, begin, open_stream, prepare
from service.engine.engine import Engine
from service.engine.text_request import TextRequest
from service.inference.cost import check_length, check_limits
from service.inference.served_model import ServedModel
from service.inference.state_tokens import StateTokens
from service.inference.texts import INSTANT, Texts, prepared
from service.models.model_registry import ModelRegistry
from service.process.background import one_step
from service.settings import Settings
from service.tgi.answer import Answer, EventWriter, ranked, tgi_error
from service.tgi.errors import REF, errors
from service.tgi.request import draws, text_request
from service.tgi.schemas import (
    EitherRequest,
    Generated,
    GenerateRequest,
    GenerateStreamRequest,
    StreamEvent,
    TgiError,
    TgiInfo,
)

STREAM_EXAMPLE = """\
data:{"index":1,"token":{"id":287,"text":",","logprob":-0.9,"special":false},"top_tokens":null,"generated_text":null,\
"details":null}
id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.1

data:{"index":2,"token":{"id":257,"text":" ","logprob":-0.1,"special":false},"top_tokens":null,"generated_text":", ",\
"details":null}
id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.2e

"""
STREAM = {
    "schema": {
        "type": "object",
        "properties": {
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"anyOf": [{"$ref": f"{REF}StreamEvent"}, {"$ref": f"{REF}TgiError"}]},
            }
        },
        "required": ["data"],
    },
    "example": STREAM_EXAMPLE,
}
TRUNCATED_BYTES = 160  # a character of inputs that are cut: up to four ids, each a number in a list
SHORT = 10_000  # characters of inputs that are prepared in an instant
INSTANT_ENTRIES = 500  # tokens that are written as JSON in an instant
STREAMED = "an event for each token, whose data is a StreamEvent, or a TgiError if the text cannot go on."

HEADERS = {
    "x-compute-type": "What computes: cpu or cuda.",
    "x-compute-characters": "Characters of the inputs.",
    "x-compute-time": "Seconds from the request to its answer.",
    "x-total-time": "The same in milliseconds.",
    "x-validation-time": "Milliseconds until the request was queued.",
    "x-prompt-tokens": "Tokens of the inputs that were read.",
    "x-generated-tokens": "Tokens of the text that is answered.",
}


class Generator:
    """Answers /, /generate, /generate_stream and /info."""

    def __init__(self, registry: ModelRegistry, engine: Engine, settings: Settings, states: StateTokens) -> None:
        self.registry, self.engine, self.settings, self.states = registry, engine, settings, states
        self.pace = Pace(settings.first_comment_seconds, settings.keep_alive_seconds)

    async def generate(self, body: GenerateRequest, request: Request) -> Response:
        """Continue a text, and answer when it is done."""
        return await self._whole(body, request)

    async def generate_stream(self, body: GenerateStreamRequest, request: Request) -> Response:
        """Continue a text, and send an event for each token as it is written."""
        return await self._stream(body, request)

    async def either(self, body: EitherRequest, request: Request) -> Response:
        """Continue a text: with `stream` as /generate_stream does, otherwise as /generate does, in a list of one."""
        if not body.stream:
            return await self._whole(body, request, listed=True)
        given = body.parameters
        for name, wanted in (("best_of", given.best_of > 1), ("decoder_input_details", given.decoder_input_details)):
            if wanted:
                raise ParameterError(name, f"parameters.{name} is not for a stream; leave out {name} or stream.")
        return await self._stream(body, request)

    async def info(
        self,
        request: Request,
        asked: Annotated[str | None, Query(alias="model", description="The model's name.")] = None,
    ) -> TgiInfo:
        """Tell what is served, and what a request may ask for."""
        model, settings = await asked_model(self.registry, name_in_path(request) or asked, request), self.settings
        return TgiInfo(
            model_id=model.name,
            model_sha=model.fingerprint,
            model_dtype="fp32" if settings.device == "cuda" else settings.arithmetic,
            model_device_type=settings.device,
            max_concurrent_requests=settings.max_rows + settings.max_waiting,
            max_best_of=LARGEST_N,
            max_stop_sequences=MOST_STOPS,
            max_input_tokens=settings.max_prompt_characters,
            max_total_tokens=settings.max_prompt_characters + LARGEST_MAX_TOKENS,
            max_client_batch_size=MOST_PROMPTS,
            version=version("unroll"),
        )

    async def _whole(self, body: GenerateRequest, request: Request, listed: bool = False) -> Response:
        """The answer that is not streamed, in a list of one if asked for."""
        began = time.perf_counter()
        model = await asked_model(self.registry, named(body, request), request, body.parameters.state)
        texts, answer = await self._prepare(model, body, request, None)
        queued = time.perf_counter()
        pieces = [piece for _, piece in await begin(texts, request)]
        texts.release()
        prompt = texts.prompts[0]
        read = prompt.tokens if body.parameters.decoder_input_details else 0
        entries = sum(piece.tokens for piece in pieces) * (1 + body.parameters.top_n_tokens) + read
        best, *_ = order = ranked(pieces)
        took = time.perf_counter() - began
        headers = {
            **self._headers(body),
            "x-compute-time": f"{took:.6f}",
            "x-total-time": f"{took * 1000:.0f}",
            "x-validation-time": f"{(queued - began) * 1000:.0f}",
            "x-prompt-tokens": str(prompt.tokens),
            "x-generated-tokens": str(best.tokens),
        }
        content = answer.json(order, prompt)
        if listed:
            content = chain("[", content, "]")
        return await json_answer(content, entries <= INSTANT_ENTRIES, self.engine, request, headers)

    async def _stream(self, body: GenerateRequest, request: Request) -> Response:
        """The answer as events."""
        model = await asked_model(self.registry, named(body, request), request, body.parameters.state)
        given, last = body.parameters, resume_point(request)
        seed = given.seed if given.seed is not None else random_seed() if last is None else last.seed
        ids = await event_ids(request, model, seed, last)
        if ids.written:
            return Response(status_code=204)
        if given.state is None or body.inputs:  # elsewhere the seed is the state's, if none is given
            given = given.model_copy(update={"seed": seed})
        opening = self._open(model, body.model_copy(update={"parameters": given}), request, ids)
        instant = given.truncate is None and given.grammar is None and len(body.inputs) <= SHORT
        return await open_stream(opening, instant, request, self.pace, partial(tgi_error, ids), self._headers(body))

    async def _open(self, model: ServedModel, body: GenerateRequest, request: Request, ids: EventIds) -> Opened:
        """Begin the text of a stream."""
        texts, answer = await self._prepare(model, body, request, self.settings.stream_interval / 1000)
        first = await begin(texts, request, self.pace.until(request))
        return Opened(texts, EventWriter(answer, texts.prompts[0], ids), first)

    async def _prepare(
        self, model: ServedModel, body: GenerateRequest, request: Request, interval: float | None
    ) -> tuple[Texts, Answer]:
        """The texts of a request, ready to be submitted, and the answer to write them with."""
        given, tokenizer = body.parameters, model.tokenizer
        check_promises(body.model_extra)
        check_promises(given.model_extra, "parameters.")
        origin = origin_of(request)
        beginning = beginning_of(given.state, model, self.states, origin)
        ask = partial(
            text_request, tokenizer, body.inputs, given, beginning=beginning, interval=interval, origin=origin
        )
        asked = ask() if given.truncate is None else await self._truncate(ask, body, request, origin)
        check_limits(asked, self.settings, asked.drawn if given.return_full_text else 0)
        texts = await prepare(model, self.engine, asked, request)
        seed = asked.parameters.seed if draws(given) else None
        sign = partial(self.states.sign, model=model, holder=origin["namespace"])
        return texts, Answer(tokenizer, given, body.inputs if given.return_full_text else "", seed, sign)

    async def _truncate(
        self, ask: Callable[[], TextRequest], body: GenerateRequest, request: Request, origin: dict[str, Any]
    ) -> TextRequest:
        """The request whose inputs are cut to their last ids, for which they are encoded."""
        read = min(len(body.inputs), body.parameters.truncate or 0)
        check_length(read, self.settings)
        if origin["lease"] is not None:
            origin["lease"].grow(read * TRUNCATED_BYTES)
        cut = prepared(self.engine, one_step(ask), read, origin["arrived"], origin["caller"])
        return await (cut if read <= INSTANT else attended(request, cut))

    def _headers(self, body: GenerateRequest) -> dict[str, str]:
        compute = {"x-compute-type": self.settings.device, "x-compute-characters": str(len(body.inputs))}
        return {**compute, **ignored_fields(body.ignored)}


def named(body: GenerateRequest, request: Request) -> str | None:
    """The model that the body names, or the path. Raises ParameterError where they name two."""
    path = name_in_path(request)
    if body.model and path and body.model != path:
        raise ParameterError("model", "The path names another model than the body; name it once.")
    return body.model or path


async def model_in_path(model: Annotated[str, Path(description="The model's name.")]) -> str:
    """The model that the path names, for the documentation of its routes; `name_in_path` reads it."""
    return model


def name_in_path(request: Request) -> str | None:
    """The model that the path names, as /models/NAME/generate does. Raises HTTPException where that is empty."""
    name: str | None = request.path_params.get("model")
    if name == "":
        raise HTTPException(404)  # as of any path that is none
    return name


def headers(*names: str) -> dict[str, Any]:
    """The documentation of the headers of an answer."""
    return {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names}


def router(registry: ModelRegistry, engine: Engine, settings: Settings, states: StateTokens) -> APIRouter:
    """The routes of this dialect."""
    generator = Generator(registry, engine, settings, states)
    routes = APIRouter(tags=["text-generation-inference"])
    _add(routes, generator, "", "/")
    _add(routes, generator, "/models/{model:path}", "")
    return routes


def _add(routes: APIRouter, generator: Generator, prefix: str, root: str) -> None:
    """Add the routes below a prefix that may name the model; root: of the route without a name of its own."""
    faults = errors(403, 404, 409, 413, 415, 422, 424, 429, 500, 503)
    named = [Depends(model_in_path)] if prefix else None
    add = partial(routes.add_api_route, dependencies=named)
    add(
        f"{prefix}/generate",
        generator.generate,
        methods=["POST"],
        summary="Continue a text",
        response_model=Generated,
        responses={200: {"description": "The text.", "headers": headers(*HEADERS)}, **faults},
    )
    add(
        f"{prefix}/generate_stream",
        generator.generate_stream,
        methods=["POST"],
        summary="Continue a text in a stream",
        response_class=EventStream,
        response_model=StreamEvent | TgiError,
        responses={
            200: {
                "description": STREAMED[0].upper() + STREAMED[1:],
                "headers": headers("x-compute-type", "x-compute-characters"),
                "content": {"text/event-stream": STREAM},
            },
            **faults,
        },
    )
    add(
        f"{prefix}/info",
        generator.info,
        methods=["GET"],
        summary="Describe the server",
        responses=errors(404, 409, 503),
    )
    add(
        f"{prefix}{root}",
        generator.either,
        methods=["POST"],
        summary="Continue a text, in a stream or not",
        response_model=list[Generated],
        responses={
            200: {
                "description": f"The text, in a list of one; or {STREAMED}",
                "headers": headers(*HEADERS),
                "content": {"text/event-stream": STREAM},
            },
            **faults,
        },
    )
