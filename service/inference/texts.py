"""The texts of one request as they come; every dialect translates its requests to it and its texts from it.

How a dialect uses it, in the event loop's thread:

    texts = await Texts.prepare(model, engine, TextRequest(prompts=["once"], parameters=SamplingParameters(seed=1)))
    texts.submit()  # all prompts or none: raises QueueFull, Draining, EngineStopped, ParameterError
    try:
        while not texts.ended:
            for index, piece in await texts.take():  # raises a ServiceError; before the first piece it has a status
                ...  # text number `index` is text index % n of prompt index // n
        print(texts.usage())
    finally:
        texts.release()

With `interval=None` one `take` returns every text whole. `take(timeout)` returns nothing after that many seconds of
silence, so that a stream can be kept alive. `texts.prompts[i]` is what is known of prompt number i; its `scores` are
there with the first piece of any of its texts.

To score a prompt of any length in constant memory, `on_scores` is called with (prompt's index, Slice) as it is read.
"""

import asyncio
import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import Scored
from model.errors import ServiceError
from model.sampling.transitions import AnyConstraint
from service.engine.engine import Engine
from service.engine.output import Grown, Output
from service.engine.sequence import SequenceGroup
from service.engine.text_request import TextRequest
from service.inference.best_of import best
from service.inference.served_model import ServedModel

logger = logging.getLogger(__name__)

# Characters that the event loop's own thread prepares, in about a millisecond; each text counts as some.
INSTANT = 20_000

# How much of a request is logged, if prompts are logged at all: enough to recognise it.
LOGGED_PROMPTS = 10
LOGGED_CHARACTERS = 1_000


class Usage(NamedTuple):
    """What a request took, in ids: each prompt once, and every drawn text."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    unseen_characters: int


class TextPrompt:
    """What is known of one prompt.

    text: as it was given, or decoded from its ids. ids: (tokens,), none for an empty prompt.
    unseen: how many of its characters never occurred in training.
    """

    def __init__(self, text: str, group: SequenceGroup) -> None:
        self.text = text
        self.tokens, self.unseen = group.prompt_tokens, group.unseen
        self.ids: NDArray[np.int32] = group.prompt[: self.tokens]
        self._group = group

    @property
    def cached(self) -> int:
        """Ids that need not be read, because the state after them came from the prefix cache."""
        return self._group.cached

    @property
    def scores(self) -> Scored | None:
        """How likely its ids were, all but the first, (tokens - 1,), once the prompt is read.

        None if the request does not ask for them, or `on_scores` takes them.
        """
        scoring = self._group.scoring
        return None if scoring is None or self._group.unread else scoring.kept


class Texts:
    """The texts of one TextRequest; `prepare` makes it. For the event loop's thread.

    prompts: what is known of each prompt.
    """

    def __init__(
        self, model: ServedModel, engine: Engine, request: TextRequest, constraint: AnyConstraint | None = None
    ) -> None:
        self.request = request
        self._engine = engine
        self._output = Output(len(request.prompts) * request.drawn, request.interval is not None)
        tokenizer, ids = model.tokenizer, model.decoder.ids
        drawable = _drawable(request, ids)
        self._groups = [
            SequenceGroup(
                *(tokenizer, ids, drawable, index),
                output=self._output,
                cache=engine.cache,
                constraint=constraint,
            )
            for index in range(len(request.prompts))
        ]
        self.prompts = [
            TextPrompt(prompt if isinstance(prompt, str) else tokenizer.decode(prompt), group)
            for prompt, group in zip(request.prompts, self._groups, strict=True)
        ]

    @classmethod
    async def prepare(cls, model: ServedModel, engine: Engine, request: TextRequest) -> "Texts":
        """The texts of a request; a large request is prepared in another thread, so that no other text waits for it.

        Raises ParameterError on unknown ids, on stop strings, and on what the texts are to match where it is refused or
        not even its shortest text fits in `max_tokens`; TokenizerError on text that is not Unicode.
        """
        constraint = None
        if request.constraint is not None:
            constraint = await model.constraints.get(request.constraint)
            constraint.check(request.max_tokens)
        if request.effort <= INSTANT:
            return cls(model, engine, request, constraint)
        return await asyncio.to_thread(cls, model, engine, request, constraint)

    def submit(self) -> None:
        """Have the texts generated. Raises what `Engine.submit` does; then there is nothing to release."""
        self._engine.submit(*self._groups)
        if self._engine.log_prompts:
            self._log()

    def release(self) -> None:
        """Release the texts, finished or not; a second call does nothing."""
        self._engine.release(*self._groups)

    def fail(self, error: ServiceError) -> None:
        """Let `take` raise a ServiceError from now on."""
        self._output.fail(error)

    @property
    def ended(self) -> bool:
        """Whether `take` has returned the end of every text."""
        return self._output.ended

    async def take(self, timeout: float | None = None) -> Grown:
        """(index, piece) of each text that has grown, in order; see `service.engine.output.Output.take`."""
        grown = await self._output.take(timeout)
        return best(grown, self.request, len(self.prompts)) if grown and self.request.drawn > self.request.n else grown

    def usage(self) -> Usage:
        """Ids read and drawn, as far as they have arrived."""
        return Usage(
            sum(prompt.tokens for prompt in self.prompts),
            sum(self._output.tokens),
            sum(prompt.cached for prompt in self.prompts),
            sum(prompt.unseen for prompt in self.prompts),
        )

    def _log(self) -> None:
        """Log the request, shortened if it is long."""
        request = self.request
        asked = {
            "prompts": [prompt.text[:LOGGED_CHARACTERS] for prompt in self.prompts[:LOGGED_PROMPTS]],
            "texts": len(self.prompts) * request.drawn,
            "max_tokens": request.max_tokens,
            "seed": request.parameters.seed,
            "temperature": request.parameters.temperature,
        }
        logger.info("Asked: %s", asked, extra={"fields": asked})


def _drawable(request: TextRequest, ids: NDArray[np.int64]) -> TextRequest:
    """The request without a bias on ids that are never drawn: every row applies each bias that is left."""
    biases = request.parameters.logit_bias
    if not biases:
        return request
    drawn = set(ids.tolist())
    left = {token: bias for token, bias in biases.items() if token in drawn}
    return replace(request, parameters=replace(request.parameters, logit_bias=left))
