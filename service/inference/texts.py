"""A request of our own that every dialect translates to and from, and its texts as they come.

How a dialect uses it, in the event loop's thread:

    texts = await Texts.prepare(model, engine, TextRequest(prompts=["once"], parameters=SamplingParameters(seed=1)))
    texts.submit()  # all prompts or none: raises QueueFull, Draining, EngineStopped, ParameterError
    try:
        while not texts.ended:
            for index, piece in await texts.take():  # raises a ServiceError; an error before the first has a status
                ...  # text number `index` is text index % n of prompt index // n
        print(texts.usage())
    finally:
        texts.release()

With `interval=None` the one `take` returns every text whole. `take(timeout)` returns nothing after so many seconds of
silence, which is the moment for a comment line that keeps a stream alive. What is known of prompt number i is
`texts.prompts[i]`, its `scores` included, which are there with the first piece of any of its own texts.

Scores of a prompt of any length in flat memory: `on_scores` is called with (prompt's index, Slice) as slices are read.
"""

import asyncio
import logging
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import Scored
from model.errors import ServiceError
from service.engine.engine import Engine
from service.engine.output import Grown, Output
from service.engine.sequence import SequenceGroup
from service.engine.text_request import TextRequest
from service.inference.best_of import best
from service.inference.served_model import ServedModel

logger = logging.getLogger(__name__)

# What the event loop's own thread prepares, in about a millisecond: characters, with those that a text counts as.
INSTANT = 20_000

# What is logged of a request where prompts are logged at all: enough to know them again.
LOGGED_PROMPTS = 10
LOGGED_CHARACTERS = 1_000


class Usage(NamedTuple):
    """What a request took, in ids; a prompt counts once however many texts it has, and every drawn text counts."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    unseen_characters: int


class TextPrompt:
    """What is known of one prompt.

    text: as it was given, or what its ids spell. ids: its own (tokens,), none for an empty one.
    unseen: how many of its characters never occurred in training.
    """

    def __init__(self, text: str, group: SequenceGroup) -> None:
        self.text = text
        self.tokens, self.unseen = group.prompt_tokens, group.unseen
        self.ids: NDArray[np.int32] = group.prompt[: self.tokens]
        self._group = group

    @property
    def cached(self) -> int:
        """Ids whose reading an earlier, alike prompt has spared."""
        return self._group.cached

    @property
    def scores(self) -> Scored | None:
        """How likely its ids were, all but the first, (tokens - 1,), once it is read.

        None where nobody asked or `on_scores` takes them.
        """
        scoring = self._group.scoring
        return None if scoring is None or self._group.unread else scoring.kept


class Texts:
    """The texts of one TextRequest; `prepare` makes it. For the event loop's thread.

    prompts: what is known of each prompt.
    """

    def __init__(self, model: ServedModel, engine: Engine, request: TextRequest) -> None:
        self.request = request
        self._engine = engine
        self._output = Output(len(request.prompts) * request.drawn, request.interval is not None)
        tokenizer, ids = model.tokenizer, model.decoder.ids
        drawable = _drawable(request, ids)
        self._groups = [
            SequenceGroup(tokenizer, ids, drawable, index, output=self._output, cache=engine.cache)
            for index in range(len(request.prompts))
        ]
        self.prompts = [
            TextPrompt(prompt if isinstance(prompt, str) else tokenizer.decode(prompt), group)
            for prompt, group in zip(request.prompts, self._groups, strict=True)
        ]

    @classmethod
    async def prepare(cls, model: ServedModel, engine: Engine, request: TextRequest) -> "Texts":
        """The texts of a request; what would hold up everyone else's text is prepared in another thread.

        Raises ParameterError on unknown ids and on stop strings, TokenizerError on text that is not Unicode.
        """
        if request.effort <= INSTANT:
            return cls(model, engine, request)
        return await asyncio.to_thread(cls, model, engine, request)

    def submit(self) -> None:
        """Let the texts be written. See `Engine.submit` for what it raises; then there is nothing to release."""
        self._engine.submit(*self._groups)
        if self._engine.log_prompts:
            self._log()

    def release(self) -> None:
        """Release the texts, whatever has become of them; calling it again does nothing."""
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
        """What was read and written, as far as it has arrived."""
        return Usage(
            sum(prompt.tokens for prompt in self.prompts),
            sum(self._output.tokens),
            sum(prompt.cached for prompt in self.prompts),
            sum(prompt.unseen for prompt in self.prompts),
        )

    def _log(self) -> None:
        """Log what was asked, as far as it is not too long."""
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
    """The request without a bias on ids that are never drawn: each row goes through those that are left."""
    biases = request.parameters.logit_bias
    if not biases:
        return request
    drawn = set(ids.tolist())
    left = {token: bias for token, bias in biases.items() if token in drawn}
    return replace(request, parameters=replace(request.parameters, logit_bias=left))
