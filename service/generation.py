"""The plain record of one text being generated, and of the request it belongs to."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.generate import Prompt
from model.sampling import RowSampling, SamplingParameters
from model.text_stream import TextStream, stop_starts
from model.tokenizer import Tokenizer
from service.output import Logprobs, Output
from service.prefix_cache import PrefixCache, Prefixes, State, marks
from service.scheduler import Row


class Generation(Row):
    """One text being generated: a row of the running batch while it has a place.

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
    cache, namespace: where the state after the prompt may be found, and whose prompts it may be found by.
    Raises ParameterError on a stop string that is empty or too long.

    prompt: the ids read before the first draw (p,), p ≥ 1; read: how many of them a state in `state` or of the row
    that reads has seen; all but the last are read, which the first draw reads. cached: how many came from the cache.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        ids: NDArray[np.int64],
        prompt: str,
        *,
        parameters: SamplingParameters,
        max_tokens: int,
        stop: Sequence[str] = (),
        n: int = 1,
        interval: float | None = None,
        logprobs: int | None = None,
        cache: PrefixCache | None = None,
        namespace: bytes = b"",
    ) -> None:
        encoded = Prompt(tokenizer, ids, prompt)
        self.prompt: NDArray[np.int32] = np.asarray(encoded.ids, np.int32)
        self.prompt_tokens, self.unseen = encoded.tokens, encoded.unseen
        self.parameters = parameters
        self.max_tokens = max_tokens
        self.interval = interval
        self.stop_starts = stop_starts(tokenizer, stop) if stop else None
        self.output = Output(n, interval is not None)
        self.rows = [
            Generation(
                self,
                choice,
                RowSampling(parameters, ids, self.prompt, choice, logprobs),
                TextStream(tokenizer, stop),
            )
            for choice in range(n)
        ]
        self.prefixes: Prefixes | None = cache.prefixes(namespace, self.prompt[:-1]) if cache else None
        self.read = self.cached = 0
        self.state: State | None = None  # after the prompt, once it is read, for the texts after the first
        last = len(self.prompt) - 1
        self._marks = marks(last) if self.prefixes is not None else [last]

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
