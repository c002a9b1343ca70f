"""A text continued as plainly as can be, one step and one draw at a time: what every faster path must equal."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.decoder import Decoder
from model.generate import Piece, TokenLogprobs
from model.sampling.parameters import SamplingParameters
from model.sampling.probabilities import likeliest, log_probabilities
from model.sampling.sampler import RowSampling, Sampler
from model.text.prompt import Prompt
from model.text.text_stream import TextStream
from model.text.tokenizer import Tokenizer


def write_plainly(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int,
    parameters: SamplingParameters,
    stop: tuple[str, ...] = (),
    choice: int = 0,
    logprobs: int | None = None,
) -> Iterator[Piece]:
    """What `model.generate.generate` is to write."""
    stream = TextStream(tokenizer, stop)
    unread = Prompt(tokenizer, decoder.ids, prompt).ids
    row = RowSampling(parameters, decoder.ids, unread, choice, logprobs)
    state, sampler = decoder.initial_state(1), Sampler([row])
    reported: list[TokenLogprobs] = []
    for position in range(max_tokens):
        for at in range(len(unread)):
            logits, state = decoder.step(unread[at : at + 1], state)
        columns = sampler.sample(logits, np.array([position]))
        unread = decoder.ids[columns].astype(np.int32)
        if row.logprobs is not None:
            reported.append(_report(decoder.ids, logits, columns, row.logprobs))
        text = stream.feed(unread.tolist())
        if stream.stopped is not None:
            yield Piece(text, "stop", position + 1, tuple(reported))
            return
        if text:
            yield Piece(text, None, position + 1, tuple(reported))
            reported = []
    yield Piece(stream.flush(), "length", max_tokens, tuple(reported))


def _report(ids: NDArray[np.int64], logits: Array, columns: NDArray[np.intp], count: int) -> TokenLogprobs:
    """ids: the id of each column of the logits (1, S); columns: the drawn one, (1,)."""
    logprobs = log_probabilities(logits)[0]
    top = [(int(ids[column]), float(logprobs[column])) for column in likeliest(logits, count)[0]]
    return TokenLogprobs(int(ids[columns[0]]), float(logprobs[columns[0]]), top)
