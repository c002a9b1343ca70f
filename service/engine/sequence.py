"""The plain record of one text being generated, and of the request it belongs to."""

import time
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from model.text.prompt import Prompt
from model.text.stop_strings import stop_starts
from model.text.text_stream import TextStream
from model.text.tokenizer import Tokenizer
from service.engine.output import Logprobs, Output, Piece
from service.engine.prefix_cache import PrefixCache, Prefixes, State, marks
from service.engine.prompt_scores import OnScores, PromptScores
from service.engine.scheduler import Row


class Generation(Row):
    """One text being generated: a row of the running batch while it has a slot.

    request: what it is part of; choice: which of its texts this is.
    kept: text that is made and waits to be due; told: ids handed over; logprobs: of those after them.
    """

    __slots__ = ("choice", "kept", "logprobs", "request", "sampling", "stream", "told")

    def __init__(self, request: "GenerationRequest", choice: int, sampling: RowSampling, stream: TextStream) -> None:
        super().__init__()
        self.request = request
        self.choice = choice
        self.sampling = sampling
        self.stream = stream
        self.kept: list[str] = []
        self.logprobs: list[Logprobs] = []
        self.told = 0


class GenerationRequest:
    """One prompt to be continued by `n` texts that differ only in their draws.

    ids: the id of each column of the decoder's logits (S,).
    interval: seconds between two pieces of a text that is handed over as it comes; None hands it over when it ends.
    logprobs: how many of the likeliest ids are reported beside each drawn one; None reports nothing.
    scored: also tell how likely the prompt's ids are, and how many likelier ones there were as `prompt_logprobs` and
        `on_scores` say; see PromptScores. Of such a prompt only the first `unscored` ids may come from the cache, and
        `on_scores` hears nothing of theirs then.
    cache, namespace: where the state after the prompt may be found, and whose prompts it may be found by.
    output: where the texts go, after those of `index` other prompts with as many texts each; None makes one.
    Raises ParameterError on an id that is none, and on a stop string that is empty or too long.

    prompt: the ids read before the first draw (p,), p ≥ 1; read: how many of them a state in `state` or of the row
    that reads has seen; all but the last are read, which the first draw reads. cached: how many came from the cache.
    arrived, submitted: when the request arrived, and when the engine took it, by `time.monotonic`.
    unfinished: texts whose end the event loop's thread has not seen.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        ids: NDArray[np.int64],
        prompt: str | Sequence[int],
        *,
        parameters: SamplingParameters,
        max_tokens: int,
        stop: Sequence[str] = (),
        include_stop: bool = False,
        min_tokens: int = 0,
        n: int = 1,
        interval: float | None = None,
        logprobs: int | None = None,
        scored: bool = False,
        prompt_logprobs: int | None = None,
        on_scores: OnScores | None = None,
        unscored: int = 0,
        cache: PrefixCache | None = None,
        namespace: bytes = b"",
        output: Output | None = None,
        index: int = 0,
        arrived: float | None = None,
    ) -> None:
        encoded = Prompt(tokenizer, ids, prompt)
        self.prompt: NDArray[np.int32] = np.asarray(encoded.ids, np.int32)
        self.prompt_tokens, self.unseen = encoded.tokens, encoded.unseen
        self.parameters = parameters
        self.max_tokens = max_tokens
        self.interval = interval
        self.stop_starts = stop_starts(tokenizer, stop) if stop else None
        self.output = output or Output(n, interval is not None)
        self.index = index
        self.arrived = time.monotonic() if arrived is None else arrived
        self.submitted = self.arrived
        self.unfinished = n
        self.rows = [
            Generation(
                self,
                choice,
                RowSampling(parameters, ids, self.prompt, choice, logprobs),
                TextStream(tokenizer, stop, include_stop, min_tokens),
            )
            for choice in range(n)
        ]
        self.scoring: PromptScores | None = None
        self.prefixes: Prefixes | None = None
        if scored:
            self.scoring = PromptScores(len(self.prompt), tokenizer.size, prompt_logprobs, on_scores)
        from_cache = len(self.prompt) - 1 if not scored else max(0, unscored - 1)
        if cache is not None and from_cache:
            self.prefixes = cache.prefixes(namespace, self.prompt[:from_cache])
        self.read = self.cached = 0
        self.state: State | None = None  # after the prompt, once it is read, for the texts after the first
        last = len(self.prompt) - 1
        self._marks = marks(last) if self.prefixes is not None and not scored else [last]

    def deliver(self, choice: int, piece: Piece) -> None:
        """Hand over what one of the texts grew by; in the event loop's thread."""
        self.output.put(self.index * len(self.rows) + choice, piece)

    def end(self, texts: int) -> int:
        """So many of its texts have ended, or as many as are left; how many that were."""
        ended = min(texts, self.unfinished)
        self.unfinished -= ended
        return ended

    @property
    def held(self) -> int:
        """What the prompt takes in memory, in ids; the scores of one take about as much as one does for each number."""
        if self.scoring is None or self.scoring.kept is None:
            return len(self.prompt)
        return len(self.prompt) * (2 + (self.scoring.top or 0))

    @property
    def unread(self) -> int:
        """Ids to read before the first draw."""
        return self._marks[-1] - self.read

    @property
    def stretch(self) -> int:
        """How many of them to read before the state is worth keeping."""
        return self._marks[bisect_right(self._marks, self.read)] - self.read

    @property
    def at_mark(self) -> bool:
        """Whether the state after what is read is worth keeping."""
        return self.read in self._marks
