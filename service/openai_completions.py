"""OpenAI's completions: their request as one of ours, and our texts as their answer, whole or streamed."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields
from typing import Any

from fastapi import Request
from starlette.responses import Response

from model.errors import ParameterError, ServiceError
from model.sampling import SamplingParameters
from service.answering import KEEP_ALIVE, EventStream, begin, check_model, ignored_fields, namespace_of, random_seed
from service.engine import Engine
from service.error_responses import of_service_error, openai_shape
from service.logs import REQUEST_ID
from service.openai_logprobs import Arrays, ArraysWriter, together, token_names
from service.openai_schemas import CompletionRequest, StreamOptions
from service.output import Logprobs, Piece
from service.served_model import ServedModel
from service.settings import Settings
from service.sse import DONE, ENCODE, ServerSentEvent
from service.texts import Grown, TextRequest, Texts, check_limits

SAMPLING = {field.name for field in fields(SamplingParameters)} - {"logit_bias"}
INSTANT = 5_000  # tokens, with the likeliest in their places, that the event loop's own thread makes JSON


class Completions:
    """Answers POST /v1/completions."""

    def __init__(self, model: ServedModel, engine: Engine, settings: Settings) -> None:
        self.model = model
        self.engine = engine
        self.settings = settings
        self.names = token_names(model.tokenizer)

    async def create(self, body: CompletionRequest, request: Request) -> Response:
        """Continue prompts, one character after the other, or with `echo` and `logprobs` tell how likely they are.

        The same model, seed and parameters give the same text: streamed or not, alone or among others, beside other
        prompts or not, and as the j-th of `n` texts the j-th of any larger `n`. Fields that are not known are named in
        the header X-Unroll-Ignored-Fields.
        """
        check_model(body.model, self.model)
        wish = self._translate(body, namespace_of(request))
        check_limits(wish, self.settings, body.n if body.echo else 1)
        texts = await Texts.prepare(self.model, self.engine, wish)
        name = body.request_id or REQUEST_ID.get() or secrets.token_hex(12)
        headers = {"X-Request-Id": name, **ignored_fields(body.ignored)}
        first = await begin(texts, request)
        answer = Answer(self, body, name, texts)
        if body.stream:
            return EventStream(answer.events(first, self.settings.keep_alive_seconds), texts, headers)
        texts.release()
        content = answer.whole(first) if answer.size <= INSTANT else await asyncio.to_thread(answer.whole, first)
        return Response(content, headers=headers, media_type="application/json")

    def _translate(self, body: CompletionRequest, namespace: bytes) -> TextRequest:
        interval = self.settings.stream_interval if body.stream_interval is None else body.stream_interval
        return TextRequest(
            prompts=body.prompt,
            parameters=self._parameters(body),
            max_tokens=body.max_tokens,
            n=body.n,
            best_of=body.best_of,
            stop=body.stop,
            include_stop=body.include_stop_str_in_output,
            min_tokens=body.min_tokens,
            logprobs=body.logprobs,
            prompt_logprobs=body.logprobs if body.echo else None,
            interval=interval / 1000 if body.stream else None,
            namespace=namespace,
        )

    def _parameters(self, body: CompletionRequest) -> SamplingParameters:
        given = body.model_dump(include=SAMPLING, exclude_none=True)
        biases = {int(token): bias for token, bias in body.logit_bias.items()}
        if biases and max(biases) >= len(self.names):
            message = f"logit_bias has the id {max(biases)}; this model's ids are 0 to {len(self.names) - 1:,}."
            raise ParameterError("logit_bias", message)
        return SamplingParameters(**{"seed": random_seed(), **given}, logit_bias=biases)


class Answer:
    """The bodies of one completion's answer."""

    def __init__(self, of: Completions, body: CompletionRequest, name: str, texts: Texts) -> None:
        self._head: dict[str, Any] = {
            "id": f"cmpl-{name}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": of.model.name,
            "system_fingerprint": of.model.fingerprint,
            "seed": texts.request.parameters.seed,
        }
        self._begin = ENCODE(self._head)[:-1] + ',"choices":['
        self._texts, self._n = texts, body.n
        self._options = body.stream_options or StreamOptions()
        self._echo = body.echo
        self._tokens = [0] * (len(texts.prompts) * body.n)  # of each text, as far as it was sent
        self._unechoed = {  # texts whose prompt was not sent yet
            index for index in range(len(self._tokens)) if body.echo and texts.prompts[index // body.n].tokens
        }
        self._echoed: dict[int, Arrays] = {}  # the arrays of each prompt, once they are written
        self._writers = [
            ArraysWriter(of.model.tokenizer, of.names, len(prompt.text) if body.echo else 0)
            for prompt in texts.prompts
            for _ in range(body.n)
        ]
        self._prompt_writers = [ArraysWriter(of.model.tokenizer, of.names) for _ in texts.prompts]
        self._asked = body.logprobs is not None

    @property
    def size(self) -> int:
        """About how much JSON the whole answer is, in tokens and the likeliest in their places."""
        return self._texts.request.work(self._n if self._echo else 0) if self._asked else 0

    def whole(self, ended: Grown) -> bytes:
        """The answer that is not streamed, of every text's only piece."""
        choices = ",".join(self._choice(index, piece, echo=self._echo) for index, piece in ended)
        usage = ENCODE(self._usage(self._texts.usage().completion_tokens))
        return f'{self._begin}{choices}],"usage":{usage}}}'.encode()

    async def events(self, first: Grown, keep_alive: float) -> AsyncIterator[bytes]:
        """The stream, in as many bytes at a time as there are; an error in its middle becomes its last event."""
        try:
            grown = first
            while True:
                if self._unechoed:
                    for index in [index for index, _ in grown if index in self._unechoed]:
                        yield await asyncio.to_thread(self._echo_event, index)
                yield self._events(grown) or KEEP_ALIVE
                if self._texts.ended:
                    break
                grown = await self._texts.take(keep_alive)
            if self._options.include_usage:
                usage = self._usage(self._texts.usage().completion_tokens)
                yield ServerSentEvent.of_json({**self._head, "choices": [], "usage": usage}).encode()
        except ServiceError as error:
            _, failure = openai_shape(of_service_error(error))
            yield ServerSentEvent.of_json(failure).encode()
        yield DONE.encode()

    def _events(self, grown: Grown) -> bytes:
        """An event for each text that grew, or for each character it grew by."""
        split = self._texts.request.interval == 0
        return b"".join(
            self._event(index, self._choice(index, piece), piece.tokens)
            for index, grew in grown
            for piece in (characters(grew) if split else (grew,))
        )

    def _event(self, index: int, choice: str, tokens: int) -> bytes:
        self._tokens[index] = tokens
        usage = ENCODE(self._usage(sum(self._tokens))) if self._options.continuous_usage_stats else "null"
        return ServerSentEvent(f'{self._begin}{choice}],"usage":{usage}}}').encode()

    def _echo_event(self, index: int) -> bytes:
        """The event of a text's prompt, which is scored by the time the text has grown."""
        self._unechoed.remove(index)
        return self._event(index, self._choice(index, Piece(""), echo=True), 0)

    def _choice(self, index: int, piece: Piece, echo: bool = False) -> str:
        """A text, or some of it, as JSON; with its prompt before it or not."""
        text = self._texts.prompts[index // self._n].text + piece.text if echo else piece.text
        arrays = [Arrays()] if self._asked else []
        if echo and self._asked:
            arrays.append(self._echo_arrays(index // self._n))
        if piece.logprobs is not None:
            arrays.append(self._writers[index].drawn(piece.logprobs))
        return (
            f'{{"index":{index},"text":{ENCODE(text)},"logprobs":{together(*arrays) if arrays else "null"},'
            f'"finish_reason":{ENCODE(piece.finish_reason)},"stop_reason":{ENCODE(piece.stop_reason)}}}'
        )

    def _echo_arrays(self, prompt: int) -> Arrays:
        if prompt not in self._echoed:
            self._echoed[prompt] = self._prompt_writers[prompt].prompt(self._texts.prompts[prompt])
        return self._echoed[prompt]

    def _usage(self, written: int) -> dict[str, Any]:
        usage = self._texts.usage()
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": usage.prompt_tokens + written,
            "prompt_tokens_details": {
                "cached_tokens": usage.cached_tokens,
                "unseen_characters": usage.unseen_characters,
            },
        }


def characters(piece: Piece) -> Sequence[Piece]:
    """A piece for each character of one; what the text ended with is said by the last.

    Log-probabilities are shared out where each character is an id; where they are not, the piece stays whole.
    """
    if piece.logprobs is not None and len(piece.logprobs.ids) != len(piece.text):
        return [piece]
    going_on = piece._replace(finish_reason=None, stop_reason=None)
    last = len(piece.text) - 1
    return [
        *(
            going_on._replace(text=character, logprobs=_one(piece.logprobs, at))
            for at, character in enumerate(piece.text[:-1])
        ),
        piece._replace(text=piece.text[-1:], logprobs=_one(piece.logprobs, last)),
    ]


def _one(logprobs: Logprobs | None, at: int) -> Logprobs | None:
    return None if logprobs is None else logprobs.part(at, at + 1)
