"""Log-probabilities in the arrays of OpenAI's completions, as JSON that is written a block at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.text.text_stream import TextStream
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES
from service.api.schemas import LEAST_LOGPROB
from service.api.sse import ENCODE
from service.engine.output import Logprobs
from service.inference.texts import TextPrompt

BLOCK = 1024  # tokens written as JSON at a time, so that other threads get their turn


class Arrays(NamedTuple):
    """The entries of the four arrays as JSON, without brackets, so that parts can be joined."""

    tokens: str = ""
    token_logprobs: str = ""
    top_logprobs: str = ""
    text_offset: str = ""


def together(*parts: Arrays) -> str:
    """The arrays of one text as JSON, the entries of several parts of it in order."""
    fields = zip(Arrays._fields, zip(*parts, strict=True), strict=True)
    return "{" + ",".join(f'"{name}":[{",".join(filter(None, part))}]' for name, part in fields) + "}"


def token_names(tokenizer: Tokenizer) -> list[str]:
    """The name of each id: its character, or a byte in the way OpenAI writes one."""
    return [f"bytes:\\x{byte:02x}" for byte in range(BYTES)] + list(tokenizer.characters)


class Offsets:
    """Where in a text its ids begin, in characters; all bytes of a character have the offset of the character."""

    def __init__(self, tokenizer: Tokenizer, start: int) -> None:
        self._stream = TextStream(tokenizer)
        self._at = start

    def of(self, ids: Sequence[int]) -> list[int]:
        """The offsets of the next ids."""
        start = self._at
        if not self._stream.holding and (not ids or min(ids) >= BYTES):
            self._at += len(ids)
            return list(range(start, self._at))
        offsets = []
        for token in ids:
            offsets.append(self._at)
            self._at += len(self._stream.feed([token]))
        return offsets


class ArraysWriter:
    """Writes the arrays of one text, one part of it after the other.

    names: as `token_names` has them. start: characters of the whole text before this one.
    """

    def __init__(self, tokenizer: Tokenizer, names: list[str], start: int = 0) -> None:
        self._names = names
        self._offsets = Offsets(tokenizer, start)

    def drawn(self, logprobs: Logprobs) -> Arrays:
        """The arrays of ids that were drawn."""
        return self._write(*logprobs, null_first=False)

    def prompt(self, prompt: TextPrompt) -> Arrays:
        """The arrays of a prompt that was scored, whose first id has no probability."""
        scores = prompt.scores
        assert scores is not None
        assert scores.top_ids is not None
        assert scores.top_logprobs is not None
        padded = [
            np.concatenate([np.zeros_like(column, shape=(1, *column.shape[1:])), column])[: prompt.tokens]
            for column in (scores.logprobs, scores.top_ids, scores.top_logprobs)
        ]
        return self._write(prompt.ids, *padded, null_first=True)

    def _write(
        self,
        ids: NDArray[np.int32],
        logprobs: NDArray[np.float32],
        top_ids: NDArray[np.int32],
        top_logprobs: NDArray[np.float32],
        *,
        null_first: bool,
    ) -> Arrays:
        blocks: list[Arrays] = []
        for start in range(0, len(ids), BLOCK):
            part = slice(start, start + BLOCK)
            own = ids[part].tolist()
            values: list[Any] = np.maximum(logprobs[part], LEAST_LOGPROB).tolist()
            tops: list[Any] = self._tops(own, values, top_ids[part], np.maximum(top_logprobs[part], LEAST_LOGPROB))
            if null_first and not start:
                values[0] = tops[0] = None
            columns = [self._names[token] for token in own], values, tops, self._offsets.of(own)
            blocks.append(Arrays(*(ENCODE(column)[1:-1] for column in columns)))
        return Arrays(*(",".join(column) for column in zip(*blocks, strict=True)))

    def _tops(
        self, ids: list[int], values: list[float], top_ids: NDArray[np.int32], top_logprobs: NDArray[np.float32]
    ) -> list[dict[str, float]]:
        """For each position the likeliest tokens, likeliest first, and the token that is there."""
        names = self._names
        return [
            {**dict(zip([names[other] for other in others], theirs, strict=True)), names[token]: value}
            for token, value, others, theirs in zip(ids, values, top_ids.tolist(), top_logprobs.tolist(), strict=True)
        ]
