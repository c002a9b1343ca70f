"""POST /v1/score: how likely texts are, from a word to a book, alone or ranked among others."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from model.errors import ParameterError, ServiceError
from model.generate import count_unseen
from model.sampling import SamplingParameters
from service.answering import EventStream, begin, check_model, ignored_fields, namespace_of
from service.engine import Engine
from service.error_responses import of_service_error, openai_shape
from service.routes import errors
from service.schemas import event_schema
from service.score_schemas import MOST_DETAILS, ScoreRequest, Scores
from service.score_tally import BITS, Tally, details
from service.scoring import Scoring, Slice
from service.served_model import ServedModel
from service.settings import Settings
from service.sse import DONE, ENCODE, ServerSentEvent
from service.texts import INSTANT, TextRequest, Texts

WORTH_KEEPING = 64  # tokens of a context that is read once for all texts; a shorter one is read with each
PROGRESS_SECONDS = 0.5  # between two events of a stream while texts are read

NO_HELD_OUT = (
    "The checkpoint has no held-out passages to compare with; measure them with "
    "`unroll evaluate CHECKPOINT CORPUS --split SPLIT --write-surprise`."
)
WARM = " The texts were read after a context, the passages after none."

STREAM_EXAMPLE = """\
data: {"object":"score.progress","tokens":0,"total_tokens":7}

data: {"object":"score","model":"shakespeare","results":[{"index":0,"characters":6,"tokens":6,"bits":9.5,\
"bits_per_character":1.583,"nats_per_character":1.097,"bits_per_byte":1.583,"unseen_characters":0,"anomaly":null,\
"details":null}],"ranking":{"total":[0],"per_character":[0]},"anomaly_note":"The checkpoint has no held-out passages.",\
"usage":{"prompt_tokens":6,"completion_tokens":0,"total_tokens":6,"prompt_tokens_details":{"cached_tokens":0,\
"unseen_characters":0}}}

data: [DONE]

"""
STREAM = {
    "schema": event_schema(
        "The data of each event is a Progress as JSON, of the last but one the Scores, of the last [DONE]. An error in "
        "the middle is an event whose data is an ErrorBody.",
        "Progress",
        "Scores",
        "ErrorBody",
    ),
    "example": STREAM_EXAMPLE,
}


class Reading:
    """The texts of one request while they are read.

    prefix: what is read before each text: the context, or a line break. cached: ids of it that were read before.
    texts: set before the first score comes.
    """

    def __init__(self, model: ServedModel, body: ScoreRequest) -> None:
        self.model, self.body = model, body
        tokenizer = model.tokenizer
        self.prefix = body.context or tokenizer.piece(tokenizer.start_id)
        before = tokenizer.encode(self.prefix)
        self.skip = len(before)
        self.context_tokens = self.skip if body.context else 0
        self.context_unseen = count_unseen(before, model.decoder.ids)
        self.top = body.top_logprobs if body.details or body.top_logprobs else None
        self.cached = 0
        self.tallies: list[Tally] = []
        self.texts: Texts

    def request(self, namespace: bytes) -> TextRequest:
        """What the engine is asked for."""
        return TextRequest(
            prompts=[self.prefix + text for text in self.body.texts],
            parameters=SamplingParameters(),
            max_tokens=0,
            prompt_logprobs=self.top,
            on_scores=self.take,
            unscored=self.skip,
            namespace=namespace,
        )

    def expect(self, texts: Texts) -> None:
        """Make ready for the scores of these texts."""
        self.texts = texts
        size = self.model.tokenizer.size
        for prompt in texts.prompts:
            kept = None if self.top is None else Scoring(prompt.tokens, size, self.top, None)
            self.tallies.append(Tally(self.skip, kept))

    def take(self, index: int, slice_: Slice) -> None:
        """Take some scores of one text."""
        self.tallies[index].take(slice_)

    def progress(self) -> dict[str, Any]:
        """How far the reading is."""
        total = sum(prompt.tokens for prompt in self.texts.prompts)
        return {
            "object": "score.progress",
            "tokens": sum(tally.read for tally in self.tallies),
            "total_tokens": total,
        }

    def answer(self) -> str:
        """The answer as JSON, once all is read."""
        results = [self._result(index) for index in range(len(self.tallies))]
        indices = range(len(results))
        held_out, tokens = self.model.held_out, self.context_tokens + sum(result["tokens"] for result in results)
        note = NO_HELD_OUT if held_out is None else f"Percentiles are among {held_out.protocol}."
        unseen = sum(result["unseen_characters"] for result in results)
        return ENCODE(
            {
                "object": "score",
                "model": self.model.name,
                "results": results,
                "ranking": {
                    "total": sorted(indices, key=lambda at: results[at]["bits"]),
                    "per_character": sorted(indices, key=lambda at: _last_if_null(results[at]["bits_per_character"])),
                },
                "anomaly_note": note + (WARM if held_out is not None and self.body.context else ""),
                "usage": {
                    "prompt_tokens": tokens,
                    "completion_tokens": 0,
                    "total_tokens": tokens,
                    "prompt_tokens_details": {
                        "cached_tokens": self.cached,
                        "unseen_characters": unseen + (self.context_unseen if self.body.context else 0),
                    },
                },
            }
        )

    def _result(self, index: int) -> dict[str, Any]:
        """The score of one text, as `TextScore` has it."""
        text, prompt, tally = self.body.texts[index], self.texts.prompts[index], self.tallies[index]
        characters, bits = len(text), tally.nats * BITS
        per_character = bits / characters if characters else None
        every = None
        if tally.kept is not None and tally.kept.kept is not None:
            every = details(self.model.tokenizer, text, prompt.ids[self.skip :], tally.kept.kept)
        return {
            "index": index,
            "characters": characters,
            "tokens": prompt.tokens - self.skip,
            "bits": bits,
            "bits_per_character": per_character,
            "nats_per_character": tally.nats / characters if characters else None,
            "bits_per_byte": bits / len(text.encode()) if characters else None,
            "unseen_characters": prompt.unseen - self.context_unseen,
            "anomaly": None if per_character is None else self._anomaly(per_character, characters),
            "details": every,
        }

    def _anomaly(self, bits_per_character: float, characters: int) -> dict[str, float] | None:
        held_out = self.model.held_out
        if held_out is None:
            return None
        return {
            "percentile": held_out.percentile(bits_per_character, characters),
            "reference_median_bits_per_character": held_out.median(characters),
        }


def _last_if_null(number: float | None) -> float:
    return float("inf") if number is None else number


class ScoreRoutes:
    """Answers /v1/score."""

    def __init__(self, model: ServedModel, engine: Engine, settings: Settings) -> None:
        self.model, self.engine = model, engine
        self.most_texts = settings.max_rows + settings.max_waiting
        self.most_work = settings.max_work

    async def score(self, body: ScoreRequest, request: Request) -> Response:
        """Tell how likely texts are: bits per character, which is the likeliest, and how odd each is for this model.

        A text's score depends on the text and the context alone: not on those beside it, nor on who else is served.
        Texts are read side by side, one of any length in constant memory. Fields that are not known are named in the
        header X-Unroll-Ignored-Fields.
        """
        check_model(body.model, self.model)
        self._check(body)
        size = sum(map(len, body.texts)) + len(body.context or "")
        reading = Reading(self.model, body) if size <= INSTANT else await asyncio.to_thread(Reading, self.model, body)
        namespace = namespace_of(request)
        if reading.context_tokens >= WORTH_KEEPING and self.engine.cache.capacity:
            await self._read_context(reading, namespace, request)
        texts = await Texts.prepare(self.model, self.engine, reading.request(namespace))
        reading.expect(texts)
        headers = ignored_fields(body.model_extra or ())
        if body.stream:
            texts.submit()
            return EventStream(events(reading), texts, headers)
        await begin(texts, request)
        texts.release()
        return Response(await written(reading), headers=headers, media_type="application/json")

    async def _read_context(self, reading: Reading, namespace: bytes, request: Request) -> None:
        """Let the context be read once: the texts then find the state after it in the prefix cache."""
        wanted = TextRequest(
            prompts=[reading.prefix], parameters=SamplingParameters(), max_tokens=1, namespace=namespace
        )
        context = await Texts.prepare(self.model, self.engine, wanted)
        await begin(context, request)
        context.release()
        reading.cached = context.usage().cached_tokens

    def _check(self, body: ScoreRequest) -> None:
        """What depends on several fields together."""
        characters, context = sum(map(len, body.texts)), len(body.context or "")
        if len(body.texts) > self.most_texts:
            message = f"These are {len(body.texts)} texts; this server holds {self.most_texts} at once, send fewer."
            raise ParameterError("texts", message)
        if body.details or body.top_logprobs:
            most = MOST_DETAILS // (2 + body.top_logprobs)
            if characters > most:
                raise ParameterError(
                    "details",
                    f"These are details of {characters:,} characters; ask for those of at most {most:,} at a time with "
                    f"top_logprobs {body.top_logprobs}, the rest in requests of their own that have what stands "
                    "before as `context`; or leave out `details`.",
                )
        work = characters + context * len(body.texts)
        if work > self.most_work:
            raise ParameterError(
                "context" if context * len(body.texts) > characters else "texts",
                f"This is to read {work:,} characters, the context with every text; this server's max_work is "
                f"{self.most_work:,}: send fewer texts at a time, or a shorter context.",
            )


async def written(reading: Reading) -> str:
    """The answer as JSON; a long one is written in another thread."""
    if reading.top is None and sum(map(len, reading.body.texts)) <= INSTANT:
        return reading.answer()
    return await asyncio.to_thread(reading.answer)


async def events(reading: Reading) -> AsyncIterator[bytes]:
    """The stream: how far the reading is, the answer, the end; an error in its middle becomes an event."""
    texts = reading.texts
    try:
        yield ServerSentEvent.of_json(reading.progress()).encode()
        told = time.monotonic()
        while not texts.ended:
            left = told + PROGRESS_SECONDS - time.monotonic()
            await texts.take(max(0.0, left))
            if not texts.ended:
                told = time.monotonic()
                yield ServerSentEvent.of_json(reading.progress()).encode()
        texts.release()
        yield ServerSentEvent(await written(reading)).encode()
    except ServiceError as error:
        _, failure = openai_shape(of_service_error(error))
        yield ServerSentEvent.of_json(failure).encode()
    yield DONE.encode()


def router(model: ServedModel, engine: Engine, settings: Settings) -> APIRouter:
    """The route for scores."""
    answers = ScoreRoutes(model, engine, settings)
    routes = APIRouter(tags=["text"])
    routes.add_api_route(
        "/v1/score",
        answers.score,
        methods=["POST"],
        summary="Tell how likely texts are",
        response_model=Scores,
        responses={
            200: {
                "description": "The scores, or a stream on the way to them.",
                "content": {"text/event-stream": STREAM},
            },
            **errors(400, 404, 413, 415, 429, 500, 503, 504),
        },
    )
    return routes
