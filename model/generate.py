"""One prompt to one text, alone: drawn a character at a time, or the likeliest that is found."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.decoding.beams import BeamOptions, Found, check_beams, new_search
from model.decoding.decoder import Decoder
from model.decoding.rows import AnyDecoder, Drawn, Rows
from model.errors import ParameterError
from model.online_memory.drawing import RememberingRows
from model.online_memory.memory import OnlineMemory
from model.online_memory.weights import MemoryWeights
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from model.sampling.transitions import CODES, NEVER, AnyConstraint, Completion
from model.text.prompt import Prompt
from model.text.stop_strings import StopStrings
from model.text.text_stream import FinishReason, TextStream
from model.text.tokenizer import Tokenizer


class TokenLogprobs(NamedTuple):
    """How likely a drawn id was in the model's own distribution, before temperature and penalties.

    logprob: its ln p. top: the likeliest ids there, each with its ln p, likeliest first.
    """

    token: int
    logprob: float
    top: list[tuple[int, float]]


class Piece(NamedTuple):
    """Some text of a generation; the last piece, perhaps empty, says why it ended.

    tokens: ids drawn so far, also those whose text is held back or belongs to a stop string.
    logprobs: of the ids drawn since the piece before, if they were asked for.
    """

    text: str
    finish_reason: FinishReason | None = None
    tokens: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()


def generate(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    *,
    max_tokens: int,
    parameters: SamplingParameters | None = None,
    stop: Sequence[str] = (),
    include_stop: bool = False,
    min_tokens: int = 0,
    choice: int = 0,
    logprobs: int | None = None,
    constraint: AnyConstraint | None = None,
    memory: MemoryWeights | None = None,
) -> Iterator[Piece]:
    """Continue a prompt, a piece at a time; the pieces' texts joined are the continuation without the prompt.

    prompt: text or ids.
    max_tokens: characters (ids) to draw at most.
    parameters: how they are drawn; see SamplingParameters.
    stop: strings that end the text and are not shown, or with `include_stop` are shown as its end.
    min_tokens: how many ids are drawn before a stop string is looked for.
    choice: which of several texts of the same seed.
    logprobs: report the log-probability of each drawn id and of this many of the likeliest; None reports nothing.
    constraint: what the text must match, from its first character to its last; it ends where the model would draw a
        character that the pattern does not allow, which is drawn and not kept.
    memory: the weights of an online memory of prompt and text, whose distribution is drawn from; log-probabilities are
        of that, too.
    Raises ParameterError on a parameter outside its range, and where not even the shortest text that matches fits
    in `max_tokens`; TokenizerError on a prompt that is not Unicode.
    """
    asked = Prompt(tokenizer, decoder.ids, prompt)
    if constraint is not None:
        constraint.check(max_tokens)
    walk = None if constraint is None else constraint.walk(max_tokens)
    complete = None
    if constraint is not None and constraint.ends and tokenizer.frame.items:
        complete = Completion(constraint.walk(NEVER), tokenizer.pieces, decoder.ids)
    stream = TextStream(tokenizer, stop, include_stop, min_tokens, complete)
    row = RowSampling(parameters or SamplingParameters(), decoder.ids, asked.penalised, choice, logprobs, walk)
    if memory is None:
        return _continue(decoder.rows(1), stream, asked.ids, row, max_tokens)
    rows = RememberingRows(decoder, OnlineMemory(memory, len(asked.ids) + max_tokens))
    return _continue(rows, stream, asked.ids, row, max_tokens)


def search(
    decoder: AnyDecoder,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    options: BeamOptions,
    *,
    max_tokens: int,
    n: int = 1,
    stop: Sequence[str] = (),
) -> list[Found]:
    """The `n` likeliest continuations of a prompt that a beam search finds, the likeliest first.

    Raises ParameterError on a parameter outside its range, TokenizerError on a prompt that is not Unicode.
    """
    check_beams(options, n, len(decoder.ids))
    if max_tokens < 1:
        raise ParameterError("max_tokens", f"max_tokens is {max_tokens:,}; choose at least 1 for a beam search.")
    stops = StopStrings(stop, tokenizer.frame.separator)
    asked = Prompt(tokenizer, decoder.ids, prompt)
    found = new_search(tokenizer, decoder.ids, options, max_tokens=max_tokens, stops=stops)
    rows, slots = decoder.rows(options.width), np.arange(options.width)
    rows.read([0], asked.ids[None, :-1])
    while found.live:
        live = slots[: found.live]
        found.prepare(rows, live, int(asked.ids[-1]))
        found.accept(rows, slots, rows.draw(live, 1))
    return found.best(n)


def _continue(
    rows: Rows, stream: TextStream, read: NDArray[np.int32], row: RowSampling, max_tokens: int
) -> Iterator[Piece]:
    rows.read([0], read[None, :-1])
    rows.set(0, row, int(read[-1]))
    reported: list[TokenLogprobs] = []
    for position in range(max_tokens):
        drawn = rows.draw([0], 1)
        count = 1 if drawn.counts is None else int(drawn.counts[0])
        reported += _report(drawn)[:count]
        text = stream.feed(drawn.ids[0, :count].tolist())
        if stream.stopped is not None:
            yield Piece(text, "stop", position + 1, tuple(reported))
            return
        if drawn.ended is not None and drawn.ended[0]:
            reason: FinishReason = "stop" if drawn.ended[0] == CODES["stop"] else "length"
            yield Piece(text + stream.flush(), reason, position + count, tuple(reported))
            return
        if text:
            yield Piece(text, None, position + 1, tuple(reported))
            reported = []
    yield Piece(stream.flush(), "length", max_tokens, tuple(reported))


def _report(drawn: Drawn) -> list[TokenLogprobs]:
    """How likely the one drawn id was, if that was asked for."""
    if drawn.logprobs is None or drawn.top_ids is None or drawn.top_logprobs is None:
        return []
    top = list(zip(drawn.top_ids[0, 0].tolist(), drawn.top_logprobs[0, 0].tolist(), strict=True))
    return [TokenLogprobs(int(drawn.ids[0, 0]), float(drawn.logprobs[0, 0]), top)]
