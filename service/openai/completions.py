"""POST /v1/completions: translates OpenAI's request into a TextRequest and answers it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from fastapi import Request
from starlette.responses import Response

from model.decoding.state import RowState
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from model.text.tokenizer import Tokenizer
from service.api.constraint_fields import constraint_of
from service.api.pieces import json_answer
from service.api.promises import check_promises
from service.api.request_fields import asked_model, beginning_of, ignored_fields, origin_of, seed_of
from service.api.sse import event_ids, resume_point
from service.api.streaming import Opened, Pace, begin, is_instant, open_stream, openai_error, prepare
from service.engine.engine import Engine
from service.engine.text_request import TextRequest
from service.inference.cost import check_limits
from service.inference.served_model import PerModel, ServedModel
from service.inference.state_tokens import StateTokens
from service.models.model_registry import ModelRegistry
from service.openai.answer import Answer
from service.openai.logprobs import token_names
from service.openai.schemas import CompletionRequest
from service.openai.stop_ids import stop_texts
from service.request_context import request_context
from service.settings import Settings

SAMPLING = {field.name for field in fields(SamplingParameters)} - {"logit_bias"}


class Completions:
    """Answers POST /v1/completions."""

    def __init__(self, registry: ModelRegistry, engine: Engine, settings: Settings, states: StateTokens) -> None:
        self.registry = registry
        self.engine = engine
        self.settings = settings
        self.states = states
        self.pace = Pace(settings.first_comment_seconds, settings.keep_alive_seconds)
        self.names = PerModel(lambda model: token_names(model.tokenizer))

    async def create(self, body: CompletionRequest, request: Request) -> Response:
        """Continue prompts, one character after the other, or with `echo` and `logprobs` tell how likely they are.

        The same model, seed and parameters give the same text: streamed or not, alone or among others, beside other
        prompts or not, and as the j-th of `n` texts the j-th of any larger `n`. Fields that are not known are named in
        the header X-Unroll-Ignored-Fields.
        """
        model = await asked_model(self.registry, body.model, request, body.state)
        check_promises(body.model_extra)
        return await self.answer(body, model, request, body.ignored)

    async def answer(
        self,
        body: CompletionRequest,
        model: ServedModel,
        request: Request,
        ignored: Iterable[str],
        answer: type[Answer] = Answer,
    ) -> Response:
        """The answer of a model. ignored: names of fields that change nothing. answer: writes the bodies."""
        context = request_context(request.scope)
        origin = origin_of(request, body.cache_salt)
        beginning = beginning_of(body.state, model, self.states, origin)
        last = resume_point(request) if body.stream else None
        seed = last.seed if last is not None else body.seed
        seed = seed_of(beginning, body.prompt) if seed is None else seed
        asked = self._translate(body, model, beginning, seed, origin)
        check_limits(asked, self.settings, body.n if body.echo else 0)
        name = body.request_id or context.id
        headers = {"X-Request-Id": name, **ignored_fields(ignored)}
        sign = partial(self.states.sign, model=model, holder=origin["namespace"])
        make = partial(answer, model, self.names(model), body, name, sign=sign)
        if body.stream:
            ids = await event_ids(request, model, asked.parameters.seed, last, len(body.prompt) * body.n, body.echo)
            if ids.complete:
                return Response(status_code=204)
            opening = self._open(model, asked, request, partial(make, ids=ids))
            errors = partial(openai_error, ids)
            return await open_stream(opening, is_instant(asked), request, self.pace, errors, headers)
        texts = await prepare(model, self.engine, asked, request)
        first = await begin(texts, request)
        texts.release()
        writer = make(texts=texts)
        return await json_answer(writer.whole(first), writer.instant, self.engine, request, headers)

    async def _open(
        self, model: ServedModel, asked: TextRequest, request: Request, make: Callable[..., Answer]
    ) -> Opened:
        """Begin the texts of a stream."""
        texts = await prepare(model, self.engine, asked, request)
        first = await begin(texts, request, self.pace.until(request))
        return Opened(texts, make(texts=texts), first)

    def _translate(
        self,
        body: CompletionRequest,
        model: ServedModel,
        beginning: RowState | None,
        seed: int,
        origin: Mapping[str, Any],
    ) -> TextRequest:
        interval = self.settings.stream_interval if body.stream_interval is None else body.stream_interval
        return TextRequest(
            prompts=_prompts(body, model.tokenizer),
            parameters=self._parameters(body, model.tokenizer.size, seed),
            max_tokens=body.max_tokens,
            n=body.n,
            best_of=None if body.use_beam_search else body.best_of,
            beams=body.search_of(body.n if body.best_of is None else body.best_of),
            stop=[*body.stop, *stop_texts(model.tokenizer, body.stop_token_ids)],
            include_stop=body.include_stop_str_in_output,
            min_tokens=body.min_tokens,
            ignore_end=body.ignore_eos,
            logprobs=body.logprobs,
            prompt_logprobs=body.logprobs if body.echo else None,
            constraint=constraint_of(body.asked),
            beginning=beginning,
            return_state=body.return_state,
            interval=interval / 1000 if body.stream else None,
            **origin,
        )

    def _parameters(self, body: CompletionRequest, vocabulary: int, seed: int) -> SamplingParameters:
        given = {name: value for name in SAMPLING if (value := getattr(body, name)) is not None}
        biases = {int(token): bias for token, bias in body.logit_bias.items()}
        if biases and max(biases) >= vocabulary:
            message = f"logit_bias has the id {max(biases)}; this model's ids are 0 to {vocabulary - 1:,}."
            raise ParameterError("logit_bias", message)
        return SamplingParameters(**{"seed": seed, **given}, logit_bias=biases)


def _prompts(body: CompletionRequest, tokenizer: Tokenizer) -> list[str | list[int]]:
    """The prompts, each after the label that was asked for."""
    if not (label := tokenizer.frame.labelled(body.label)):
        return body.prompt
    ids = tokenizer.encode(label).tolist()
    return [label + prompt if isinstance(prompt, str) else [*ids, *prompt] for prompt in body.prompt]
