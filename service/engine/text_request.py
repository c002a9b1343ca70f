"""One request for texts: the record that every dialect makes and the engine accepts."""

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields

from model.constraints.constraint import Constraint
from model.decoding.beams import BeamOptions
from model.decoding.state import RowState
from model.errors import ParameterError
from model.online_memory.weights import MemoryWeights
from model.sampling.parameters import SamplingParameters
from service.engine.prompt_scores import OnScores, StateWatch
from service.process.ledger import Lease

# The effort to prepare a prompt, each of its texts, and a character of a stop string, in characters of a prompt.
PROMPT_CHARACTERS, TEXT_CHARACTERS, STOP_CHARACTERS = 400, 20, 4

PLAIN = SamplingParameters()


@dataclass(frozen=True, kw_only=True)
class TextRequest:
    """Prompts to continue, score, or both. Raises ParameterError if its fields contradict each other.

    prompts: each is a text or ids.
    parameters: how characters are drawn; all prompts have the same seed, so text j of a prompt does not depend on the
    other prompts.
    max_tokens: the most ids to draw for each text; 0 draws none.
    n: texts of each prompt.
    best_of: texts to draw for each prompt; the n with the highest mean log-probability of their ids are returned,
    highest first; of equal ones the earlier comes first. None = n. Not for a stream.
    beams: search for the n likeliest texts of each prompt instead of drawing; without stream and constraint, and
    without parameters that change the order: only the seed, and a temperature of 0 or 1. None draws.
    stop: strings that end a text.
    include_stop: the stop string stays at the end of the text.
    min_tokens: ids to draw before stop strings are searched.
    ignore_end: a model of items continues after the end of an item, and that end is part of the text.
    logprobs: report the log-probability of each drawn id and of this many of the likeliest ids, among the ids that
    occurred in training; None reports nothing.
    prompt_logprobs: also score the prompts' ids, all but the first, among all ids: with rank, entropy and this many
    of the likeliest ids. None scores nothing, or with `on_scores` reports only log-probabilities.
    on_scores: takes the scores as they come; they are then not kept; see `service.engine.prompt_scores`.
    watch: looks at the states while the only prompt is read and scored; see `service.engine.prompt_scores`.
    memory: the weights of the online memory for scored prompts, None for none. Each prompt has a memory of its own
    from its first id, so nothing of it comes from the cache. A returned state does not contain the memory.
    constraint: which each text must match from its first character to its last; None for any text.
    beginning: a state that the prompts continue; with an empty prompt the text of the state itself continues, and
    `parameters` has its seed.
    return_state: each text's last piece has the state after it. Characters at its end that may begin a stop string
    are then part of the state and not of the text, and `max_tokens` does not make a constrained text end early.
    interval: seconds between two pieces of a streamed text; the first piece comes at once, and with 0 every turn
    delivers a piece. None does not stream: each text is one piece.
    unscored: with `on_scores`, the number of first ids of each prompt that need no scores; the state after them may
    come from the cache.
    namespace: the prefix cache shares states only within a namespace. Scored ids are always read again.
    arrived: when the request came, by `time.monotonic`; by default the present.
    caller: the client; callers share the slots fairly.
    lease: is charged for its memory; None charges nothing.
    """

    prompts: Sequence[str | Sequence[int]]
    parameters: SamplingParameters
    max_tokens: int = 16
    n: int = 1
    best_of: int | None = None
    beams: BeamOptions | None = None
    stop: Sequence[str] = ()
    include_stop: bool = False
    min_tokens: int = 0
    ignore_end: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    on_scores: OnScores | None = None
    watch: StateWatch | None = None
    unscored: int = 0
    memory: MemoryWeights | None = None
    constraint: Constraint | None = None
    beginning: RowState | None = None
    return_state: bool = False
    interval: float | None = None
    namespace: bytes = b""
    arrived: float = field(default_factory=time.monotonic)
    caller: Hashable = None
    lease: Lease | None = None

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ParameterError("prompt", "There is no prompt; send at least one, which may be empty.")
        if self.drawn < self.n:
            raise ParameterError("best_of", f"best_of is {self.best_of}; choose at least n, which is {self.n}.")
        if self.drawn > self.n and self.interval is not None:
            message = "best_of chooses among whole texts, which is impossible in a stream; leave out best_of or stream."
            raise ParameterError("best_of", message)
        if self.beams is not None:
            self._check_search(self.beams)

    def _check_search(self, beams: BeamOptions) -> None:
        """Raise ParameterError for fields that a beam search does not support."""
        if self.interval is not None:
            message = "A beam search has its texts only at its end and cannot stream; leave out one of the two."
            raise ParameterError("use_beam_search", message)
        if self.constraint is not None:
            message = f"A beam search does not support {self.constraint.name}; leave out one of the two."
            raise ParameterError(self.constraint.name, message)
        if self.best_of is not None:
            raise ParameterError("best_of", "A beam search draws no texts to choose from; best_of counts beams.")
        if self.n > beams.width:
            message = f"n is {self.n:,}, but best_of, the number of beams, is {beams.width:,}; choose at least n."
            raise ParameterError("best_of", message)
        if self.return_state or self.beginning is not None:
            raise ParameterError("state", "A beam search can neither continue nor return a state; leave out one.")
        for one in fields(SamplingParameters):
            value, free = getattr(self.parameters, one.name), getattr(PLAIN, one.name)
            if value != free and one.name != "seed" and (one.name != "temperature" or value != 0):
                message = f"A beam search draws nothing and does not use {one.name}; leave out one of the two."
                raise ParameterError(one.name, message)

    @property
    def read(self) -> bool:
        """Whether the engine has work even if no text is drawn."""
        return self.scored or self.return_state

    @property
    def drawn(self) -> int:
        """The number of texts that are drawn for each prompt."""
        return self.n if self.best_of is None else self.best_of

    @property
    def drawn_logprobs(self) -> int | None:
        """The `logprobs` of the engine; it always needs log-probabilities to choose the best texts."""
        return 0 if self.logprobs is None and self.drawn > self.n else self.logprobs

    @property
    def scored(self) -> bool:
        """Whether the prompts' ids are scored."""
        return self.prompt_logprobs is not None or self.on_scores is not None

    @property
    def width(self) -> int:
        """The number of slots that each of its rows takes."""
        return 1 if self.beams is None else self.beams.width

    @property
    def rows(self) -> int:
        """The number of slots that all its texts take together."""
        return self.texts if self.beams is None else len(self.prompts) * self.beams.width

    def work(self, echoes: int = 1) -> int:
        """The most characters of the answer: of the prompts, `echoes` times, and of the texts; each counts once for
        itself and once for each likeliest id that is reported with it."""
        reported = max(self.logprobs or 0, self.prompt_logprobs or 0) + 1
        drawn = self.rows * self.max_tokens
        return (sum(map(len, self.prompts)) * echoes + drawn) * reported

    @property
    def texts(self) -> int:
        """The number of texts that are drawn for all prompts."""
        return len(self.prompts) * self.drawn

    @property
    def effort(self) -> int:
        """The approximate work of its preparation, in characters."""
        stops = STOP_CHARACTERS * sum(map(len, self.stop))
        return sum(map(len, self.prompts)) + len(self.prompts) * PROMPT_CHARACTERS + self.rows * TEXT_CHARACTERS + stops
