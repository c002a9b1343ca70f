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

With `interval=None` the one `take` returns every text whole. `take(patience)` returns nothing after so many seconds of
silence, which is the moment for a comment line that keeps a stream alive. What is known of prompt number i is
`texts.prompts[i]`, its `scores` included, which are there with the first piece of any of its own texts.

Scores of a prompt of any length in flat memory: `on_scores` is called with (prompt's index, Slice) as slices are read.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import ParameterError, ServiceError
from model.rows import Scored
from model.sampling import SamplingParameters
from service.engine import Engine
from service.generation import GenerationRequest
from service.output import Output, Piece
from service.scoring import OnScores
from service.served_model import ServedModel
from service.settings import Settings

logger = logging.getLogger(__name__)

# What the event loop's own thread prepares, in about a millisecond: characters, with those that a text counts as.
INSTANT = 20_000
TEXT_CHARACTERS = 200

# What is logged of a request where prompts are logged at all: enough to know them again.
LOGGED_PROMPTS = 10
LOGGED_CHARACTERS = 1_000

Grown = list[tuple[int, Piece]]


@dataclass(frozen=True, kw_only=True)
class TextRequest:
    """Prompts to be continued, scored, or both. Raises ParameterError where its fields do not go together.

    prompts: texts or ids, or some of each. parameters: how characters are drawn; the seed is every prompt's, so that
        text j of a prompt is the same whichever prompts stand beside it.
    max_tokens: ids to draw at most for each text; 0 draws none. n: texts of each prompt.
    best_of: so many are drawn for each prompt, of which the n with the highest mean log-probability of their ids are
        returned, highest first, the earlier one if equal; None = n. Not for a stream.
    stop: strings that end a text. include_stop: they stay in the text, as its end.
    min_tokens: ids of a text before a stop string is looked for.
    logprobs: report the log-probability of each drawn id, among the ids that training showed, and of so many of the
        likeliest; None reports nothing.
    prompt_logprobs: score the prompts' ids, too, all but the first, among all ids, with rank, entropy and so many of
        the likeliest. None scores nothing, or with `on_scores` reports log-probabilities alone.
    on_scores: takes the scores as they come instead of their being kept; see `service.scoring`.
    interval: seconds between two pieces of a text that is streamed; the first comes at once, 0 hands over whatever
        there is. None makes one piece of each text.
    unscored: with `on_scores`: so many ids of each prompt need no scores, and their state may come from the cache.
    namespace: whose prompts the prefix cache may find these by; ids that are scored are always read anew.
    """

    prompts: Sequence[str | Sequence[int]]
    parameters: SamplingParameters
    max_tokens: int = 16
    n: int = 1
    best_of: int | None = None
    stop: Sequence[str] = ()
    include_stop: bool = False
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    on_scores: OnScores | None = None
    unscored: int = 0
    interval: float | None = None
    namespace: bytes = b""

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ParameterError("prompt", "There is no prompt; send at least one, which may be empty.")
        if self.drawn < self.n:
            raise ParameterError("best_of", f"best_of is {self.best_of}; choose at least n, which is {self.n}.")
        if self.drawn > self.n and self.interval is not None:
            message = "best_of chooses among whole texts, which a stream cannot; leave out best_of or stream."
            raise ParameterError("best_of", message)

    @property
    def drawn(self) -> int:
        """Texts that are drawn for each prompt."""
        return self.n if self.best_of is None else self.best_of

    @property
    def scored(self) -> bool:
        """Whether the prompts' ids are scored."""
        return self.prompt_logprobs is not None or self.on_scores is not None

    def work(self, echoes: int = 1) -> int:
        """What is asked for, in characters: of the prompts, `echoes` times, and of the texts at most; each of them as
        often as others are reported in its place, and once."""
        reported = max(self.logprobs or 0, self.prompt_logprobs or 0) + 1
        drawn = len(self.prompts) * self.drawn * self.max_tokens
        return (sum(map(len, self.prompts)) * echoes + drawn) * reported

    @property
    def effort(self) -> int:
        """About how many characters' worth of work it is to prepare."""
        texts = len(self.prompts) * self.drawn
        return sum(map(len, self.prompts)) + texts * (TEXT_CHARACTERS + sum(map(len, self.stop)))


def check_limits(request: TextRequest, settings: Settings, echoes: int = 1) -> None:
    """Raise ParameterError where a request asks for more than the settings allow.

    echoes: how often the answer has each prompt.
    """
    longest = max(map(len, request.prompts))
    if longest > settings.max_prompt_characters:
        message = f"The prompt has {longest:,} characters; send at most {settings.max_prompt_characters:,}."
        raise ParameterError("prompt", message)
    work = request.work(echoes)
    if work > settings.max_work:
        message = (
            f"This may take {work:,} characters, of prompts and texts and of the likeliest ones reported for each; "
            f"this server's max_work is {settings.max_work:,}: ask for fewer prompts, texts, max_tokens or logprobs."
        )
        raise ParameterError("max_tokens" if len(request.prompts) == 1 else "prompt", message)


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

    def __init__(self, text: str, generation: GenerationRequest) -> None:
        self.text = text
        self.tokens, self.unseen = generation.prompt_tokens, generation.unseen
        self.ids: NDArray[np.int32] = generation.prompt[: self.tokens]
        self._generation = generation

    @property
    def cached(self) -> int:
        """Ids whose reading an earlier, alike prompt has spared."""
        return self._generation.cached

    @property
    def scores(self) -> Scored | None:
        """How likely its ids were, all but the first, (tokens - 1,), once it is read.

        None where nobody asked or `on_scores` takes them.
        """
        scoring = self._generation.scoring
        return None if scoring is None or self._generation.unread else scoring.kept


class Texts:
    """The texts of one TextRequest; `prepare` makes it. For the event loop's thread.

    prompts: what is known of each prompt.
    """

    def __init__(self, model: ServedModel, engine: Engine, request: TextRequest) -> None:
        self.request = request
        self._engine = engine
        self._output = Output(len(request.prompts) * request.drawn, request.interval is not None)
        self._choosing = request.drawn > request.n
        logprobs = 0 if self._choosing and request.logprobs is None else request.logprobs
        parameters = _drawable(request.parameters, model.decoder.ids)
        self._generations = [
            GenerationRequest(
                model.tokenizer,
                model.decoder.ids,
                prompt,
                parameters=parameters,
                max_tokens=request.max_tokens,
                stop=request.stop,
                include_stop=request.include_stop,
                min_tokens=request.min_tokens,
                n=request.drawn,
                interval=request.interval,
                logprobs=logprobs,
                scored=request.scored,
                prompt_logprobs=request.prompt_logprobs,
                on_scores=request.on_scores,
                unscored=request.unscored,
                cache=engine.cache,
                namespace=request.namespace,
                output=self._output,
                index=index,
            )
            for index, prompt in enumerate(request.prompts)
        ]
        self.prompts = [
            TextPrompt(prompt if isinstance(prompt, str) else model.tokenizer.decode(prompt), generation)
            for prompt, generation in zip(request.prompts, self._generations, strict=True)
        ]

    @classmethod
    async def prepare(cls, model: ServedModel, engine: Engine, request: TextRequest) -> "Texts":
        """The texts of a request; what would hold up everyone else's text is prepared in another thread.

        Raises ParameterError on ids that are none and on stop strings, TokenizerError on text that is not Unicode.
        """
        if request.effort <= INSTANT:
            return cls(model, engine, request)
        return await asyncio.to_thread(cls, model, engine, request)

    def submit(self) -> None:
        """Let the texts be written. See `Engine.submit` for what it raises; then there is nothing to release."""
        self._engine.submit(*self._generations)
        if self._engine.log_prompts:
            self._log()

    def release(self) -> None:
        """Let the texts go, whatever has become of them; more than once is no matter."""
        self._engine.release(*self._generations)

    def fail(self, error: ServiceError) -> None:
        """Let `take` raise a ServiceError from now on."""
        self._output.fail(error)

    @property
    def ended(self) -> bool:
        """Whether `take` has returned the end of every text."""
        return self._output.ended

    async def take(self, patience: float | None = None) -> Grown:
        """(index, piece) of each text that has grown, in order; see `service.output.Output.take`."""
        grown = await self._output.take(patience)
        return self._best(grown) if self._choosing and grown else grown

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

    def _best(self, ended: Grown) -> Grown:
        """The best texts of each prompt, in their new order, of all that were drawn."""
        n, drawn = self.request.n, self.request.drawn
        best: Grown = []
        for prompt in range(len(self.prompts)):
            pieces = [piece for _, piece in ended[prompt * drawn : (prompt + 1) * drawn]]
            pieces.sort(key=_mean_logprob, reverse=True)  # which keeps the order of equals
            best += [(prompt * n + at, piece) for at, piece in enumerate(pieces[:n])]
        if self.request.logprobs is None:
            best = [(index, piece._replace(logprobs=None)) for index, piece in best]
        return best


def _drawable(parameters: SamplingParameters, ids: NDArray[np.int64]) -> SamplingParameters:
    """The same without a bias on ids that are never drawn: each row goes through those that are left."""
    if not parameters.logit_bias:
        return parameters
    drawn = set(ids.tolist())
    return replace(parameters, logit_bias={at: bias for at, bias in parameters.logit_bias.items() if at in drawn})


def _mean_logprob(piece: Piece) -> float:
    """The mean log-probability of the ids of a text; 0 of one without any."""
    if piece.logprobs is None or not len(piece.logprobs.logprobs):
        return 0.0
    return float(piece.logprobs.logprobs.mean(dtype=np.float64))
