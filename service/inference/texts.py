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

import logging
import math
import time
from collections.abc import AsyncIterator, Hashable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.constraints.constraint import Constraint
from model.decoding.beams import check_beams
from model.decoding.rows import Scored
from model.errors import ServiceError
from model.sampling.transitions import AnyConstraint
from service.engine.engine import SPENT, Engine
from service.engine.output import Grown, Output
from service.engine.prompt_scores import scored_from
from service.engine.sequence import SequenceGroup, Tables
from service.engine.text_request import TextRequest
from service.errors import MemorySpent
from service.inference.best_of import best
from service.inference.cost import kept_bytes, request_bytes
from service.inference.patterns import check_pattern, pattern_digest
from service.inference.served_model import ServedModel
from service.process.background import Result, Steps

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
    held, undecoded: of a text that goes on: what its reader has not seen, see `RowState`.
    """

    def __init__(self, text: str, group: SequenceGroup) -> None:
        self.text = text
        self.held = "" if group.goes_on is None else group.goes_on.held
        self.undecoded = b"" if group.goes_on is None else group.goes_on.undecoded
        self.tokens, self.unseen = group.prompt_tokens, group.unseen
        self.ids: NDArray[np.int32] = group.prompt[group.lead :]
        self._group = group

    @property
    def cached(self) -> int:
        """Ids of its own that need not be read, because the state after them came from the prefix cache."""
        return max(0, self._group.cached - self._group.lead)

    @property
    def scores(self) -> Scored | None:
        """How likely its ids were, all but the first, (tokens - 1,), once the prompt is read.

        None if the request does not ask for them, or `on_scores` takes them.
        """
        scoring = self._group.scoring
        if scoring is None or scoring.kept is None or self._group.unread:
            return None
        return scored_from(scoring.kept, self._group.lead)


class Texts:
    """The texts of one TextRequest; `prepare` makes it. For the event loop's thread.

    prompts: what is known of each prompt.
    """

    def __init__(
        self,
        engine: Engine,
        request: TextRequest,
        output: Output,
        groups: list[SequenceGroup],
        prompts: list[TextPrompt],
    ) -> None:
        self.request = request
        self.prompts = prompts
        self._engine = engine
        self._output = output
        self._groups = groups

    @classmethod
    async def prepare(cls, model: ServedModel, engine: Engine, request: TextRequest) -> "Texts":
        """The texts of a request; a large request is prepared in another thread, so that no other text waits for it.

        What it will cost is checked and charged first. Raises what `Engine.expect` and `prepared` do, TooCostly,
        ParameterError on unknown ids, on stop strings, and on what the texts are to match where it is refused or not
        even its shortest text fits in `max_tokens`; TokenizerError on text that is not Unicode.
        """
        engine.expect(request)
        if request.beams is not None:
            check_beams(request.beams, request.n, len(model.decoder.ids))
        cost = 0
        if request.lease is not None:
            cost = request_bytes(request, model)
            request.lease.grow(cost)
        constraint, pattern = None, b""
        if request.constraint is not None:
            constraint, pattern = await _constraint(model, engine, request, request.constraint)
        steps = _steps(model, engine, request, constraint, pattern)
        texts = await prepared(engine, steps, request.effort, request.arrived, request.caller)
        if request.lease is not None and request.effort > INSTANT:
            kept = kept_bytes(request, model, sum(prompt.tokens for prompt in texts.prompts))
            request.lease.shrink(request.lease.size - cost + kept)
        return texts

    def submit(self) -> None:
        """Have the texts generated. Raises what `Engine.submit` does; then there is nothing to release."""
        self._engine.submit(*self._groups)
        if self._engine.log_prompts:
            self._log()

    def release(self) -> None:
        """Release the texts, finished or not; a second call does nothing."""
        self._output.close()
        self._output.forget()
        self._engine.release(*self._groups)

    def fail(self, error: ServiceError) -> None:
        """Let `take` raise a ServiceError from now on."""
        self._output.fail(error)

    def beside(self, parts: Iterator[Result]) -> AsyncIterator[Result]:
        """Parts of the answer, each made in another thread when it is asked for."""
        return self._engine.background.each(parts, self.request.caller)

    def check_time(self) -> None:
        """Raise DeadlineExceeded where the request has taken too long."""
        if time.monotonic() > self._engine.deadline(self.request.arrived):
            raise self._engine.late()

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
            self._output.drawn,
            sum(prompt.cached for prompt in self.prompts),
            sum(prompt.unseen for prompt in self.prompts),
        )

    def _log(self) -> None:
        """Log the request, shortened if it is long."""
        request = self.request
        asked = {
            "prompts": [prompt.text[:LOGGED_CHARACTERS] for prompt in self.prompts[:LOGGED_PROMPTS]],
            "texts": request.texts,
            "max_tokens": request.max_tokens,
            "seed": request.parameters.seed,
            "temperature": request.parameters.temperature,
        }
        logger.info("Asked: %s", asked, extra={"fields": asked})


def _steps(
    model: ServedModel, engine: Engine, request: TextRequest, constraint: AnyConstraint | None, pattern: bytes
) -> Steps[Texts]:
    """Make the texts of a request, one prompt a step."""
    tokenizer, ids = model.tokenizer, model.decoder.ids
    output = Output(request.texts, request.interval is not None, request.lease)
    tables = Tables(tokenizer, ids, request, constraint, pattern)
    groups: list[SequenceGroup] = []
    prompts: list[TextPrompt] = []
    for index, prompt in enumerate(request.prompts):
        group = SequenceGroup(model.engine_model, request, index, output=output, cache=engine.cache, tables=tables)
        groups.append(group)
        prompts.append(TextPrompt(prompt if isinstance(prompt, str) else tokenizer.decode(prompt), group))
        yield
    return Texts(engine, request, output, groups, prompts)


async def _constraint(
    model: ServedModel, engine: Engine, request: TextRequest, constraint: Constraint
) -> tuple[AnyConstraint, bytes]:
    """What the texts of a request are to match, compiled, and charged for the texts that are written at once; and its
    digest, where a state is asked for or given."""
    coming = model.constraints.get(constraint, request.caller, engine.background)
    try:
        compiled = await engine.background.elsewhere(coming, _until(engine, request.arrived))
    except TimeoutError:
        raise engine.late() from None
    states = request.return_state or request.beginning is not None
    pattern = pattern_digest(constraint, compiled) if states else b""
    check_pattern(request, compiled, pattern)
    if request.lease is not None:
        twice = compiled.ends and model.tokenizer.frame.items  # a second way says where an item may end
        request.lease.grow(min(request.texts, engine.slots) * compiled.row_bytes * (1 + twice))
    return compiled, pattern


def _until(engine: Engine, arrived: float) -> float | None:
    """When the time of a request that came then is over; None where that is never."""
    deadline = engine.deadline(arrived)
    return None if deadline == math.inf else deadline


async def prepared(engine: Engine, steps: Steps[Result], effort: int, arrived: float, caller: Hashable) -> Result:
    """The result of some work for a request, done at once where it takes about a millisecond, else in another thread.

    effort: of the work, in characters. Raises what the work does, MemorySpent where there is no memory for it,
    QueueFull where too much work waits, and DeadlineExceeded.
    """
    try:
        if effort <= INSTANT:
            return at_once(steps)
        return await engine.background.finish(steps, caller, _until(engine, arrived))
    except TimeoutError:
        raise engine.late() from None
    except MemoryError:
        raise MemorySpent(SPENT) from None


def at_once(steps: Steps[Result]) -> Result:
    """The result of some work, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
