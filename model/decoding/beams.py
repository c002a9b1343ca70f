"""Beam search: the likeliest texts found side by side, where other texts are drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import Drawn, Rows, Slots
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from model.text.stop_strings import StopStrings
from model.text.text_stream import FinishReason, TextStream
from model.text.tokenizer import Tokenizer

MOST_BEAMS = 1024
LARGEST_PENALTY = 10.0
GREEDY = SamplingParameters(temperature=0)
EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamOptions:
    """How a beam search ranks and ends; the names and their meaning are those of vLLM and Transformers.

    width: how many texts go on side by side. length_penalty: a text's score is ln of its probability divided by its
    length in ids to this power: 1 ranks by the mean, 0 by the whole, more favours long texts.
    early_stopping: when a search ends that has `width` finished texts. True: at once. False: when the likeliest
    unfinished one, as long as it is, scores no higher than any of them. "never": when none can ever score higher.
    Raises ParameterError on a value outside its range.
    """

    width: int
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False

    def __post_init__(self) -> None:
        if type(self.width) is not int or not 1 <= self.width <= MOST_BEAMS:
            raise ParameterError("beams", f"beams is {self.width!r}; choose a whole number from 1 to {MOST_BEAMS:,}.")
        penalty = self.length_penalty
        if not isinstance(penalty, int | float) or not -LARGEST_PENALTY <= penalty <= LARGEST_PENALTY:
            raise ParameterError(
                "length_penalty",
                f"length_penalty is {penalty!r}; choose a number from -{LARGEST_PENALTY:g} to {LARGEST_PENALTY:g}.",
            )
        if self.early_stopping not in (True, False, "never"):
            message = f"early_stopping is {self.early_stopping!r}; choose true, false or never."
            raise ParameterError("early_stopping", message)

    def score(self, logprob: float, length: int) -> float:
        """By which texts are ranked. Twelve digits of the power are used, which every processor computes alike."""
        return logprob / float(f"{float(length) ** self.length_penalty:.12g}")


class Found(NamedTuple):
    """A text that a search has found.

    text: without the prompt. tokens: ids of it, those of a stop string included. stop_reason: the stop string that
    ended it. logprob: ln of the probability of its ids. score: by which it is ranked.
    ids: of the text (tokens,), and how likely they and the likeliest others were; see `Drawn`.
    """

    text: str
    finish_reason: FinishReason
    tokens: int
    stop_reason: str | None
    logprob: float
    score: float
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


class _Step(NamedTuple):
    """What was kept of a step: the parent and the id of each beam (B,), ln p of the id, and the likeliest ids of each
    parent (parents, N)."""

    parents: NDArray[np.int32]
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


class _End(NamedTuple):
    """A text that has ended: after how many steps, as which beam of the last one, and how it ranks."""

    steps: int
    beam: int
    logprob: float
    score: float
    reason: FinishReason


class BeamSearch:
    """The search for one prompt, a step at a time, in slots that the caller gives it.

    At each step every text is continued by its likeliest ids, and of all continuations the `width` likeliest go on
    (Lowerre 1976). A text that its stop string or an item's end completes is finished, if it is among the likeliest
    `width`; the other places are filled with the next ones. Of equal continuations the one of the earlier beam comes
    first, then the one of the lower column. So the result depends on prompt and options alone.

    stream: makes the TextStream of a text. stops: its stop strings. ids: the id of each column of the logits (S,).
    reported: how many of the likeliest ids are reported for each id of a text.
    """

    def __init__(
        self,
        options: BeamOptions,
        max_tokens: int,
        ids: NDArray[np.int64],
        stops: StopStrings,
        stream: Callable[[], TextStream],
        starts: NDArray[np.bool_] | None,
        reported: int = 0,
    ) -> None:
        self.options, self._most, self._new_stream = options, max_tokens, stream
        self._starts = starts
        self._reported = min(reported, len(ids))
        # Of a beam's continuations as many may be finished texts as there are last characters of stop strings.
        self._columns = min(len(ids), options.width + len(stops.lasts))
        self.sampling = RowSampling(GREEDY, ids, np.zeros(0), logprobs=max(self._columns, self._reported))
        """How the rows draw; only what they report counts."""
        self._nothing = np.zeros((options.width, 0), np.int32), np.zeros((options.width, 0), np.float32)
        self._streams = [stream()]
        self._totals = np.zeros(1)  # ln of the probability of each beam
        self._steps: list[_Step] = []
        self._finished: list[_End] = []
        self._done = False

    @property
    def live(self) -> int:
        """How many rows the next step has; 0 once the search has ended."""
        return 0 if self._done else len(self._totals)

    @property
    def steps(self) -> int:
        """How many ids its texts have so far."""
        return len(self._steps)

    def prepare(self, rows: Rows, slots: Slots, last_id: int) -> None:
        """Let the first `live` slots read what their texts ended with. last_id: of the prompt, for the first step."""
        last = self._steps[-1].ids.tolist() if self._steps else [last_id]
        for slot, token in zip(slots, last, strict=False):
            rows.set(int(slot), self.sampling, token)

    def accept(self, rows: Rows, slots: Slots, drawn: Drawn, at: int = 0) -> None:
        """Go on with what the first `live` slots drew in one step, in `drawn` from row `at` on."""
        assert drawn.top_ids is not None
        assert drawn.top_logprobs is not None
        part = slice(at, at + len(self._totals))
        ids, logprobs = drawn.top_ids[part, 0], drawn.top_logprobs[part, 0]
        totals = self._totals[:, None] + logprobs[:, : self._columns].astype(np.float64)
        parents, columns = self._choose(totals, ids)
        kept = self._reported
        self._steps.append(
            _Step(
                np.array(parents, np.int32),
                ids[parents, columns],
                logprobs[parents, columns],
                ids[:, :kept].copy() if kept else self._nothing[0],
                logprobs[:, :kept].copy() if kept else self._nothing[1],
            )
        )
        self._totals = totals[parents, columns][: len(self._streams)]
        self._end_if_done()
        if self.live:
            slots = np.asarray(slots)
            alive = self._steps[-1].parents[: self.live]
            rows.state[slots[: self.live]] = rows.state[slots[alive]]

    def best(self, count: int) -> list[Found]:
        """The `count` texts with the highest scores, highest first, once the search has ended; of equal ones the
        earlier one is first."""
        ranked = sorted(self._finished, key=lambda end: -end.score)
        return [self._found(end) for end in ranked[:count]]

    def _choose(self, totals: NDArray[np.float64], ids: NDArray[np.int32]) -> tuple[list[int], list[int]]:
        """Parents and columns of the beams that go on, and after them those of the texts that have ended."""
        width, step = self.options.width, len(self._steps) + 1
        order = np.argsort(-totals, axis=None, kind="stable")
        going: list[tuple[int, int]] = []
        ended: list[tuple[int, int]] = []
        streams: list[TextStream] = []
        for rank, flat in enumerate(order.tolist()):
            beam, column = divmod(flat, totals.shape[1])
            stream = self._after(beam, int(ids[beam, column]))
            if stream.stopped is None:
                going.append((beam, column))
                streams.append(stream)
                if len(going) == width:
                    break
            elif rank < width:
                ended.append((beam, column))
        self._streams = streams
        for at, (beam, column) in enumerate(ended, len(going)):
            self._finish(_end(self.options, step, at, float(totals[beam, column]), "stop"))
        both = [*going, *ended]
        return [beam for beam, _ in both], [column for _, column in both]

    def _after(self, beam: int, token: int) -> TextStream:
        """A beam's text after one more id; the very same where no stop string is on its way."""
        stream = self._streams[beam]
        if self._starts is None or not (self._starts[token] or stream.holding):
            return stream
        other = stream.fork()
        other.feed([token])
        return other

    def _finish(self, end: _End) -> None:
        """Keep a finished text if it is among the best."""
        self._finished.append(end)
        if len(self._finished) > self.options.width:
            worst = min(self._finished, key=lambda one: one.score)
            self._finished.reverse()  # of equals the last one goes
            self._finished.remove(next(one for one in self._finished if one.score == worst.score))
            self._finished.reverse()

    def _end_if_done(self) -> None:
        steps, live = len(self._steps), len(self._totals)
        if steps == self._most:
            for beam in range(live):
                self._finish(_end(self.options, steps, beam, float(self._totals[beam]), "length"))
            self._done = True
        elif not live:
            self._done = True
        elif len(self._finished) >= self.options.width:
            self._done = self.options.early_stopping is True or self._hopeless(steps)

    def _hopeless(self, steps: int) -> bool:
        """Whether the likeliest beam scores no higher than any finished text."""
        longest = self.options.early_stopping == "never" and self.options.length_penalty > 0
        attainable = self.options.score(float(self._totals[0]), self._most if longest else steps)
        return attainable <= min(end.score for end in self._finished)

    def _found(self, end: _End) -> Found:
        """A finished text, followed back from its last id to its first."""
        beams = [end.beam]
        for step in reversed(self._steps[1 : end.steps]):
            beams.append(int(step.parents[beams[-1]]))
        path = list(zip(self._steps[: end.steps], reversed(beams), strict=True))
        ids = np.array([step.ids[beam] for step, beam in path], np.int32)
        stream = self._new_stream()
        text = stream.feed(ids.tolist()) + stream.flush()
        return Found(
            text,
            end.reason,
            len(ids),
            stream.stop_reason,
            end.logprob,
            end.score,
            ids,
            np.array([step.logprobs[beam] for step, beam in path], np.float32),
            np.stack([step.top_ids[step.parents[beam]] for step, beam in path]),
            np.stack([step.top_logprobs[step.parents[beam]] for step, beam in path]),
        )


def _end(options: BeamOptions, steps: int, beam: int, logprob: float, reason: FinishReason) -> _End:
    return _End(steps, beam, logprob, options.score(logprob, steps), reason)


def check_beams(options: BeamOptions, n: int, ids: int) -> None:
    """Raise ParameterError where a search cannot find `n` texts of a model that draws from so many ids."""
    if n > options.width:
        message = f"n is {n:,} and beams {options.width:,}; a search finds as many texts as it has beams at most."
        raise ParameterError("n", message)
    if n > ids:
        raise ParameterError(
            "n", f"n is {n:,}; of this model, which writes {ids:,} ids, ask for at most as many texts."
        )


def new_search(
    tokenizer: Tokenizer,
    ids: NDArray[np.int64],
    options: BeamOptions,
    *,
    max_tokens: int,
    stops: StopStrings,
    include_stop: bool = False,
    min_tokens: int = 0,
    reported: int = 0,
) -> BeamSearch:
    """A search that has read nothing; see `model.generate.generate` for the parameters."""

    def stream() -> TextStream:
        return TextStream(tokenizer, stops, include_stop, min_tokens)

    starts = None
    if stops.firsts:
        starts = np.ones(tokenizer.size, np.bool_) if min_tokens else stops.starts(tokenizer)
    return BeamSearch(options, max_tokens, ids, stops, stream, starts, reported)
