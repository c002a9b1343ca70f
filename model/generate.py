"""One prompt to one text, plainly: the reference that every faster path must equal."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.decoder import Decoder
from model.sampling import RowSampling, Sampler, SamplingParameters
from model.text_stream import TextStream
from model.tokenizer import Ids, Tokenizer

FinishReason = Literal["stop", "length"]


class Piece(NamedTuple):
    """Some text of a generation; the last piece, perhaps empty, says why it ended.

    tokens: ids drawn so far, also those whose text is held back or belongs to a stop string.
    """

    text: str
    finish_reason: FinishReason | None = None
    tokens: int = 0


class Prompt:
    """A prompt as the decoder reads it.

    ids: what is read before the first character is drawn (n,), n ≥ 1; an empty prompt reads a line break,
        as if a new line had just begun.
    unseen: how many characters of the prompt never occurred in training; they are read as UTF-8 bytes or as
        characters the network knows nothing of.
    """

    def __init__(self, tokenizer: Tokenizer, seen: NDArray[np.int64], text: str) -> None:
        encoded = tokenizer.encode(text)
        self.tokens = len(encoded)
        self.unseen = count_unseen(encoded, seen)
        self.ids: NDArray[np.int64] = np.array(encoded if len(encoded) else [tokenizer.start_id], np.int64)


def count_unseen(ids: Ids, seen: NDArray[np.int64]) -> int:
    """Characters among the ids that training never showed; the bytes of one character count once."""
    whole_or_first = (ids < 0x80) | (ids >= 0xC0)
    strange = (ids < 256) | ~np.isin(ids, seen)
    return int(np.count_nonzero(strange & whole_or_first))


def generate(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_tokens: int,
    parameters: SamplingParameters | None = None,
    stop: Sequence[str] = (),
    choice: int = 0,
) -> Iterator[Piece]:
    """Continue a prompt, a piece at a time; the pieces' texts joined are the continuation without the prompt.

    max_tokens: characters (ids) to draw at most.
    parameters: how they are drawn; see SamplingParameters.
    stop: strings that end the text and are not shown.
    choice: which of several texts of the same seed.
    Raises ParameterError on a parameter outside its range, TokenizerError on a prompt that is not Unicode.
    """
    stream = TextStream(tokenizer, stop)
    read = Prompt(tokenizer, decoder.ids, prompt).ids
    row = RowSampling(parameters or SamplingParameters(), decoder.ids, read, choice)
    return _continue(decoder, stream, read, Sampler([row]), max_tokens)


def _continue(
    decoder: Decoder, stream: TextStream, read: NDArray[np.int64], sampler: Sampler, max_tokens: int
) -> Iterator[Piece]:
    unread, state = read, decoder.initial_state(1)
    for position in range(max_tokens):
        for at in range(len(unread)):
            logits, state = decoder.step(unread[at : at + 1], state)
        unread = decoder.ids[sampler.sample(logits, np.array([position]))]
        text = stream.decode(int(unread[0]))
        if stream.stopped is not None:
            yield Piece(text, "stop", position + 1)
            return
        if text:
            yield Piece(text, None, position + 1)
    yield Piece(stream.flush(), "length", max_tokens)
