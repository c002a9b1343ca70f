"""A completion from request to answer: validated fields to a generation, its text to one body or to a stream."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from functools import partial
from typing import Any

from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from model.errors import ParameterError, ServiceError
from model.sampling import SamplingParameters
from service.engine import Engine
from service.error_responses import of_service_error
from service.errors import Disconnected, UnknownModel
from service.generation import GenerationRequest
from service.output import Output, Piece
from service.schemas import Choice, Completion, CompletionRequest, PromptTokensDetails, Usage
from service.served_model import ServedModel
from service.settings import Settings
from service.sse import DONE, ENCODE, ServerSentEvent

SAMPLING = {field.name for field in fields(SamplingParameters)}
SEED_BITS = 53  # of a seed made here: a number every JSON reader keeps exact, JavaScript's included

# Characters of prompt and stop strings that the event loop's own thread prepares, in about a millisecond.
INSTANT = 20_000

Grown = Sequence[tuple[int, Piece]]


class Completions:
    """Answers POST /v1/completions."""

    def __init__(self, model: ServedModel, engine: Engine, settings: Settings) -> None:
        self.model = model
        self.engine = engine
        self.max_prompt_characters = settings.max_prompt_characters
        self.stream_interval = settings.stream_interval

    async def create(self, body: CompletionRequest, request: Request) -> Response:
        """Continue a prompt, one character after the other.

        The same model, seed and parameters give the same text: streamed or not, alone or among others, and as
        the j-th of `n` texts the j-th of any larger `n`.
        """
        self._check(body)
        parameters = self._parameters(body)
        generation = await self._prepare(body, parameters, namespace_of(request))
        answer = Answer(self.model.name, parameters.seed, body, generation)
        self.engine.submit(generation)
        try:
            async with listening(request, generation.output):
                first = await generation.output.take()  # an error until here still has a status of its own
            if not body.stream:
                self.engine.release(generation)
                return Response(answer.whole(first).model_dump_json(), media_type="application/json")
            return EventStream(answer.events(first), self.engine, generation)
        except BaseException:
            self.engine.release(generation)
            raise

    def _check(self, body: CompletionRequest) -> None:
        """What depends on the server: which model it has, and how long a prompt may be."""
        if body.model is not None and body.model != self.model.name:
            raise UnknownModel(f"There is no model {body.model[:100]!r}; this server has {self.model.name!r}.")
        if len(body.prompt) > self.max_prompt_characters:
            raise ParameterError(
                "prompt",
                f"The prompt has {len(body.prompt):,} characters; send at most {self.max_prompt_characters:,}.",
            )

    def _parameters(self, body: CompletionRequest) -> SamplingParameters:
        given = body.model_dump(include=SAMPLING, exclude_none=True)
        return SamplingParameters(**{"seed": secrets.randbits(SEED_BITS), **given})

    async def _prepare(
        self, body: CompletionRequest, parameters: SamplingParameters, namespace: bytes
    ) -> GenerationRequest:
        """The generation of a request; what would hold up everyone else's text is prepared in another thread."""
        interval = self.stream_interval if body.stream_interval is None else body.stream_interval
        prepare = partial(
            GenerationRequest,
            self.model.tokenizer,
            self.model.decoder.ids,
            body.prompt,
            parameters=parameters,
            max_tokens=body.max_tokens,
            stop=body.stop,
            n=body.n,
            interval=interval / 1000 if body.stream else None,
            cache=self.engine.cache,
            namespace=namespace,
        )
        size = len(body.prompt) + body.n * sum(map(len, body.stop))
        return prepare() if size <= INSTANT else await asyncio.to_thread(prepare)


class Answer:
    """The bodies of one completion's answer."""

    def __init__(self, model: str, seed: int, body: CompletionRequest, generation: GenerationRequest) -> None:
        self._head: dict[str, Any] = {
            "id": "cmpl-" + secrets.token_hex(12),
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
            "seed": seed,
        }
        # What the event of a piece in the middle of a text begins and ends with: most events are one of these.
        self._begin = ServerSentEvent.of_json(self._head).data[:-1] + ',"choices":[{"index":'
        self._end = ',"logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}'
        self._echo = body.prompt if body.echo else ""
        self._include_usage = body.stream_options.include_usage
        self._generation = generation
        self._counts = [0] * body.n

    def whole(self, ended: Grown) -> Completion:
        """The answer that is not streamed, of every text's only piece."""
        choices = [Choice(**self._choice(choice, piece)) for choice, piece in ended]
        for choice in choices:
            choice.text = self._echo + choice.text
        return Completion(**self._head, choices=choices, usage=self._usage())

    async def events(self, first: Grown) -> AsyncIterator[bytes]:
        """The stream, in as many bytes at a time as there are; an error in its middle becomes its last event."""
        if self._echo:
            for choice in range(len(self._counts)):  # one at a time: a long prompt times n is a lot to hold at once
                yield self._event(choice, Piece(self._echo))
        output = self._generation.output
        try:
            yield self._encode(first)
            while not output.ended:
                yield self._encode(await output.take())
            if self._include_usage:
                usage = {**self._head, "choices": [], "usage": self._usage().model_dump()}
                yield ServerSentEvent.of_json(usage).encode()
        except ServiceError as error:
            _, failure = of_service_error(error)
            yield ServerSentEvent.of_json(failure).encode()
        yield DONE.encode()

    def _encode(self, grown: Grown) -> bytes:
        """An event for each text that grew, or for each character it grew by."""
        return b"".join(
            self._event(choice, piece)
            for choice, grew in grown
            for piece in (characters(grew) if self._generation.interval == 0 else (grew,))
        )

    def _event(self, choice: int, piece: Piece) -> bytes:
        if piece.finish_reason is None:
            data = f'{self._begin}{choice},"text":{ENCODE(piece.text)}{self._end}'
            return ServerSentEvent(data).encode()
        whole = {**self._head, "choices": [self._choice(choice, piece)], "usage": None}
        return ServerSentEvent.of_json(whole).encode()

    def _choice(self, choice: int, piece: Piece) -> dict[str, Any]:
        self._counts[choice] = piece.tokens
        return {
            "index": choice,
            "text": piece.text,
            "logprobs": None,
            "finish_reason": piece.finish_reason,
            "stop_reason": piece.stop_reason,
        }

    def _usage(self) -> Usage:
        generation, written = self._generation, sum(self._counts)
        return Usage(
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=written,
            total_tokens=generation.prompt_tokens + written,
            prompt_tokens_details=PromptTokensDetails(
                cached_tokens=generation.cached, unseen_characters=generation.unseen
            ),
        )


def characters(piece: Piece) -> Sequence[Piece]:
    """A piece for each character of one; what the text ended with is said by the last."""
    return [
        *(piece._replace(text=character, finish_reason=None, stop_reason=None) for character in piece.text[:-1]),
        piece._replace(text=piece.text[-1:]),
    ]


def namespace_of(request: Request) -> bytes:
    """Whose prompts are kept together: how long an answer takes tells nobody what was asked with another key."""
    return hashlib.sha256(request.headers.get("authorization", "").encode("latin-1")).digest()


class EventStream(StreamingResponse):
    """A stream of server-sent events whose generation is let go when it ends, however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], engine: Engine, generation: GenerationRequest) -> None:
        super().__init__(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._engine, self._generation = engine, generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends or whoever reads it goes away."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._engine.release(self._generation)


@asynccontextmanager
async def listening(request: Request, output: Output) -> AsyncIterator[None]:
    """Meanwhile, let the output fail with Disconnected when whoever asked goes away."""

    async def listen() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        output.fail(Disconnected("The request was given up."))

    listener = asyncio.create_task(listen())
    try:
        yield
    finally:
        listener.cancel()
