"""One request for texts, the same for every dialect, which the engine takes whole."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from service.engine.prompt_scores import OnScores

TEXT_CHARACTERS = 200


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
    logprobs: report the log-probability of each drawn id, among the ids that training showed, and of this number of the
        likeliest ids; None reports nothing.
    prompt_logprobs: score the prompts' ids, too, all but the first, among all ids, with rank, entropy and so many of
        the likeliest. None scores nothing, or with `on_scores` reports log-probabilities alone.
    on_scores: takes the scores as they come instead of their being kept; see `service.engine.prompt_scores`.
    interval: seconds between two pieces of a text that is streamed; the first comes at once, 0 hands over whatever
        there is. None makes one piece of each text.
    unscored: with `on_scores`: so many ids of each prompt need no scores, and their state may come from the cache.
    namespace: whose prompts the prefix cache may find these by; ids that are scored are always read anew.
    arrived: when the request came, by `time.monotonic`; now if not given.
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
    arrived: float = field(default_factory=time.monotonic)

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
    def drawn_logprobs(self) -> int | None:
        """What is reported of each drawn id, as `logprobs`; choosing among more texts than n needs at least its own."""
        return 0 if self.logprobs is None and self.drawn > self.n else self.logprobs

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
