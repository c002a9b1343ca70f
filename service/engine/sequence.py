"""One text that is generated, the group of texts that continue the same prompt, and their model."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.decoding.beams import BeamSearch, new_search
from model.decoding.rows import AnyDecoder
from model.decoding.state import RowState
from model.decoding.state_recorder import StateRecorder
from model.online_memory.memory import OnlineMemory
from model.sampling.sampler import RowSampling, bias_of
from model.sampling.transitions import NEVER, AnyConstraint, Completion, Walk
from model.text.prompt import Prompt
from model.text.stop_strings import StopStrings
from model.text.text_stream import TextStream
from model.text.tokenizer import Tokenizer
from service.engine.counters import ModelCounts
from service.engine.output import Logprobs, Output, Piece
from service.engine.prefix_cache import PrefixCache, Prefixes, State, marks
from service.engine.prompt_scores import PromptScores
from service.engine.scheduler import Row
from service.engine.text_request import TextRequest

NOTHING = np.zeros(0, np.float32)


class EngineModel:
    """One version of a model, as the engine serves it.

    owner: identifies its states in the prefix cache.

    retired: whether no more of its texts will be requested, so that nothing of it is kept after its last text.
    groups: the number of groups of its texts in the engine.
    on_idle: called in the event loop's thread each time the last group is released. counts: the counters of its
    texts, which other versions of the model may share.
    """

    __slots__ = ("__weakref__", "counts", "decoder", "groups", "on_idle", "owner", "retired", "tokenizer")

    def __init__(
        self, decoder: AnyDecoder, tokenizer: Tokenizer, owner: bytes = b"", counts: ModelCounts | None = None
    ) -> None:
        self.decoder, self.tokenizer, self.owner = decoder, tokenizer, owner
        self.counts = counts or ModelCounts()
        self.retired = False
        self.on_idle: Callable[[], None] | None = None
        self.groups = 0

    @property
    def ids(self) -> NDArray[np.int64]:
        """The id of each column of the decoder's logits (S,)."""
        return self.decoder.ids


class Sequence(Row):
    """One text that is generated: a row of the running batch while it has a slot.

    group: the texts of its prompt; choice: its index among them. sampling, stream: how its ids are drawn and become
    text; made once it has a slot.
    begun: ids that the text had before, if it continues a state.
    recorder: follows the row if its state is requested; made together with these two.
    pending: text that is not delivered yet. emitted: the number of ids that were delivered; logprobs: of the ids
    after those; each of the first `joined` parts is of many calls.
    """

    __slots__ = (
        "begun",
        "choice",
        "emitted",
        "group",
        "joined",
        "logprobs",
        "pending",
        "recorder",
        "sampling",
        "stream",
    )

    sampling: RowSampling
    stream: TextStream
    recorder: StateRecorder | None
    pending: list[str]
    logprobs: list[Logprobs]
    joined: int

    def __init__(self, group: "SequenceGroup", choice: int) -> None:
        super().__init__(group.request.width if choice == 0 else 1)
        self.group = group
        self.choice = choice
        self.emitted = self.begun = 0

    def begin(self) -> None:
        """Make the objects that drawing needs."""
        group = self.group
        request, state = group.request, group.goes_on
        walk = group.tables.walk(request, state)
        self.sampling = group.sampling.of_choice(self.choice if state is None else state.choice + self.choice, walk)
        complete = group.tables.completion(state)
        shared = group.model.tokenizer, group.tables.stops
        self.stream = TextStream(*shared, request.include_stop, request.min_tokens, complete)
        self.pending, self.logprobs, self.joined = [], [], 0
        if state is not None:
            self.begun = state.position
            state.resume(self.sampling)
            ends = state.ends if state.pattern == group.tables.pattern else ()
            if shown := self.stream.resume(state.position, state.held, state.undecoded, ends):
                self.pending.append(shown)
        self.recorder = StateRecorder(group.before(self.choice), group.columns, walk) if request.return_state else None

    def end(self) -> None:
        """Drop the objects that drawing needed: other texts of its group may run much longer."""
        del self.sampling, self.stream, self.recorder


class Tables:
    """Tables that all texts of a request share, made once.

    stops: its stop strings. stop_starts: which ids may begin one (V,); None without stop strings. bias: from
    `bias_of`.
    constraint: of each text, compiled from `request.constraint`.
    pattern: a digest of it, if the request sends or requests a state.
    Raises ParameterError on a stop string that is empty or too long.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        ids: NDArray[np.int64],
        request: TextRequest,
        constraint: AnyConstraint | None = None,
        pattern: bytes = b"",
    ) -> None:
        self.constraint = constraint
        self.pattern = pattern
        self._pieces, self._ids = tokenizer.pieces, ids
        self.stops = StopStrings(request.stop, "" if request.ignore_end else tokenizer.frame.separator)
        self.stop_starts = self.stops.starts(tokenizer) if self.stops.firsts else None
        self.bias = bias_of(request.parameters, ids)

    def walk(self, request: TextRequest, state: RowState | None) -> Walk | None:
        """A row's position in its constraint: at the beginning, or after a state."""
        if self.constraint is None:
            return None
        return self._walk(self.constraint, NEVER if request.return_state else request.max_tokens, state)

    def completion(self, state: RowState | None) -> Completion | None:
        """Whether an item may end at the drawn separator; None if it may end anywhere."""
        if self.constraint is None or not self.constraint.ends or not self.stops.end:
            return None
        return Completion(self._walk(self.constraint, NEVER, state), self._pieces, self._ids)

    def _walk(self, constraint: AnyConstraint, left: int, state: RowState | None) -> Walk:
        if state is None or state.pattern != self.pattern:
            return constraint.walk(left)
        return constraint.walk(left, state.walk, state.written)


class SequenceGroup:
    """One prompt of a request and its sequences, which differ only in their random numbers.

    model: the version that writes its texts until they end.
    index: of the prompt in the request. If a prompt is scored, only its first `request.unscored` ids may come from
    the cache; `request.on_scores` then gets no scores of those.
    output: takes the texts of all prompts of the request; None makes one, for a request with one prompt.
    cache: may have the state after the prompt; None uses no cache.
    tables: of the request; None makes them, for a request with one prompt and no constraint.
    Raises ParameterError on an id outside the vocabulary, and on a stop string that is empty or too long.

    goes_on: the state whose text continues, with nothing to read after it. columns: the id of each column of the
    logits.
    prompt: the ids read before the first draw (p,), p ≥ 1; the client did not send the first `lead` of them. read:
    how many have been read; the first draw reads the last one, so prefill ends before it. state: after all ids that
    prefill reads. cached: ids whose state came from the cache. submitted: when the engine accepted the group, by
    `time.monotonic`. search: for the likeliest texts, if requested and begun. unfinished: texts whose end the event
    loop's thread has not seen.
    """

    def __init__(
        self,
        model: EngineModel,
        request: TextRequest,
        index: int = 0,
        *,
        output: Output | None = None,
        cache: PrefixCache | None = None,
        tables: Tables | None = None,
    ) -> None:
        tokenizer, ids, beginning = model.tokenizer, model.ids, request.beginning
        encoded = Prompt(tokenizer, ids, request.prompts[index], None if beginning is None else beginning.last)
        self.model = model
        self.request = request
        self.columns = ids
        self.goes_on = None if encoded.tokens else beginning
        self.index = index
        self.prompt: NDArray[np.int32] = np.asarray(encoded.ids, np.int32)
        self.prompt_tokens, self.unseen, self.lead = encoded.tokens, encoded.unseen, encoded.lead
        self.tables = tables or Tables(tokenizer, ids, request)
        self.sampling = RowSampling(
            request.parameters, ids, encoded.penalised, 0, request.drawn_logprobs, bias=self.tables.bias
        )
        self._seen: NDArray[np.bool_] | None = None  # columns whose ids precede the text, if requested
        if beginning is not None or request.return_state:
            self._seen = np.isin(ids, encoded.penalised)
        if beginning is not None and self._seen is not None:
            self._seen |= beginning.in_prompt if self.goes_on else beginning.seen
            if request.parameters.penalises:
                self.sampling.in_prompt = self._seen
        self.output = output or Output(request.drawn, request.interval is not None, request.lease)
        self.submitted = request.arrived
        self.unfinished = request.drawn
        self.memory: OnlineMemory | None = None  # while the prompt is read and scored
        self.sequences = [Sequence(self, choice) for choice in range(request.drawn)]
        self.scoring: PromptScores | None = None
        self.search: BeamSearch | None = None
        self.prefixes: Prefixes | None = None
        scored = request.scored
        if scored:
            wanted = request.prompt_logprobs, request.on_scores, request.watch
            self.scoring = PromptScores(len(self.prompt), tokenizer.size, *wanted)
        from_cache = len(self.prompt) - 1 if not scored else max(0, request.unscored - 1)
        if cache is not None and from_cache and beginning is None:
            self.prefixes = cache.prefixes(request.namespace, self.prompt[:from_cache], model.owner)
        self.read = self.cached = 0
        self.state: State | None = None  # after the prompt, once it is read, for the sequences after the first
        last = len(self.prompt) - 1
        self._marks = marks(last) if self.prefixes is not None and not scored else [last]

    @property
    def rows(self) -> list[Sequence]:
        """The sequences that take slots: all of them, or in a beam search only the first, for all its beams."""
        return self.sequences if self.request.beams is None else self.sequences[:1]

    def begin_search(self) -> BeamSearch:
        """The search for the likeliest texts, once the prompt is read."""
        request, beams = self.request, self.request.beams
        assert beams is not None
        self.search = new_search(
            self.model.tokenizer,
            self.columns,
            beams,
            max_tokens=request.max_tokens,
            stops=self.tables.stops,
            include_stop=request.include_stop,
            min_tokens=request.min_tokens,
            reported=request.logprobs or 0,
        )
        return self.search

    def before(self, choice: int) -> RowState:
        """The state of a choice's text before its first draw, for a StateRecorder."""
        assert self._seen is not None
        state, parameters = self.goes_on, self.request.parameters
        if state is not None and state.pattern == self.tables.pattern:
            return replace(state, seed=parameters.seed, choice=state.choice + choice, in_prompt=self._seen)
        return RowState(
            network=NOTHING,
            last=int(self.prompt[-1]),
            seed=parameters.seed,
            choice=choice if state is None else state.choice + choice,
            position=0 if state is None else state.position,
            drawn=np.zeros(len(self.columns), np.int32) if state is None else state.drawn,
            in_prompt=self._seen,
            pattern=self.tables.pattern,
        )

    def deliver(self, choice: int, piece: Piece) -> None:
        """Deliver a piece of one of the texts; in the event loop's thread."""
        self.output.put(self.index * len(self.sequences) + choice, piece)

    def end(self, texts: int) -> int:
        """Count up to `texts` more texts as ended; returns how many of them were not counted before."""
        ended = min(texts, self.unfinished)
        self.unfinished -= ended
        return ended

    def let_go(self) -> None:
        """Drop the sequences, which refer to the group, once nothing waits for them and no thread works on them.

        Otherwise their memory would wait for the garbage collector. A thread that has released some of them calls
        this.
        """
        if not self.unfinished and all(row.gone or row.worker < 0 for row in self.sequences):
            self.sequences = []

    @property
    def initial(self) -> State | float:
        """The state before the prompt is read."""
        return 0.0 if self.request.beginning is None else self.request.beginning.network

    @property
    def held(self) -> int:
        """The memory of the prompt, in ids; each reported number of a score takes about as much as an id."""
        if self.scoring is None or self.scoring.kept is None:
            return len(self.prompt)
        return len(self.prompt) * (2 + (self.scoring.top or 0))

    @property
    def unread(self) -> int:
        """The number of ids to read before the first draw."""
        return self._marks[-1] - self.read

    @property
    def until_mark(self) -> int:
        """The number of ids to read until the next state that the cache stores, or the end."""
        return self._marks[bisect_right(self._marks, self.read)] - self.read

    @property
    def at_mark(self) -> bool:
        """Whether the cache stores the state after the ids that are read."""
        return self.read in self._marks
