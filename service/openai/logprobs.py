"""Log-probabilities in the arrays of OpenAI's completions, as JSON that is written a block at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.text.text_stream import TextStream
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES
from service.api.pieces import ENTRIES, separated
from service.api.schemas import LEAST_LOGPROB
from service.api.sse import ENCODE
from service.engine.output import Logprobs
from service.inference.texts import TextPrompt


def token_names(tokenizer: Tokenizer) -> list[str]:
    """The name of each id: its character, or a byte in the way OpenAI writes one."""
    return [f"bytes:\\x{byte:02x}" for byte in range(BYTES)] + list(tokenizer.characters)


class Offsets:
    """Where in a text its ids begin, in characters; all bytes of a character have the offset of the character."""

    def __init__(self, tokenizer: Tokenizer, start: int, undecoded: bytes = b"") -> None:
        """start: characters before the first id. undecoded: bytes before it of a character that is not complete."""
        self._stream = TextStream(tokenizer)
        self._stream.resume(0, "", undecoded)
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


class Entries:
    """What the four arrays have for some ids of a text, written as JSON a block at a time.

    names: as `token_names` has them. offsets: of the text the ids belong to. shift: ids before the first that has
    scores, which are null.
    """

    def __init__(
        self,
        names: list[str],
        offsets: Offsets,
        ids: NDArray[np.int32],
        scores: tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]],
        shift: int = 0,
    ) -> None:
        self._names, self._offsets, self._ids = names, offsets, ids
        self._logprobs, self._top_ids, self._top_logprobs = scores
        self._shift = shift
        self._block = max(1, ENTRIES // (1 + self._top_ids.shape[1]))

    @classmethod
    def drawn(cls, names: list[str], offsets: Offsets, logprobs: Logprobs) -> "Entries":
        """Those of ids that were drawn."""
        return cls(names, offsets, logprobs.ids, (logprobs.logprobs, logprobs.top_ids, logprobs.top_logprobs))

    @classmethod
    def of_prompt(cls, names: list[str], tokenizer: Tokenizer, prompt: TextPrompt) -> "Entries":
        """Those of a prompt that was scored, whose first id has no probability."""
        scores = prompt.scores
        assert scores is not None
        assert scores.top_ids is not None
        assert scores.top_logprobs is not None
        return cls(
            names, Offsets(tokenizer, 0), prompt.ids, (scores.logprobs, scores.top_ids, scores.top_logprobs), shift=1
        )

    def tokens(self) -> Iterator[str]:
        """The names of the ids."""
        for own, _ in self._blocks():
            yield ENCODE([self._names[token] for token in own])[1:-1]

    def token_logprobs(self) -> Iterator[str]:
        """How likely each was."""
        for own, scored in self._blocks():
            yield ENCODE(self._padded(np.maximum(self._logprobs[scored], LEAST_LOGPROB).tolist(), own))[1:-1]

    def top_logprobs(self) -> Iterator[str]:
        """For each position the likeliest tokens, likeliest first, and the token that is there."""
        for own, scored in self._blocks():
            values = np.maximum(self._logprobs[scored], LEAST_LOGPROB).tolist()
            others = np.maximum(self._top_logprobs[scored], LEAST_LOGPROB).tolist()
            names = self._names
            tops: list[Any] = [
                {**dict(zip([names[other] for other in ids], theirs, strict=True)), names[token]: value}
                for token, value, ids, theirs in zip(
                    own[len(own) - len(values) :], values, self._top_ids[scored].tolist(), others, strict=True
                )
            ]
            yield ENCODE(self._padded(tops, own))[1:-1]

    def text_offset(self) -> Iterator[str]:
        """Where each begins; to be asked for once, as the text goes on from there."""
        for own, _ in self._blocks():
            yield ENCODE(self._offsets.of(own))[1:-1]

    def _blocks(self) -> Iterator[tuple[list[int], slice]]:
        """Some ids at a time, and where their scores are."""
        for start in range(0, len(self._ids), self._block):
            end = min(start + self._block, len(self._ids))
            yield self._ids[start:end].tolist(), slice(max(0, start - self._shift), end - self._shift)

    def _padded(self, values: list[Any], own: list[int]) -> list[Any]:
        return [None] * (len(own) - len(values)) + values


def together(*parts: Entries) -> Iterator[str]:
    """The arrays of one text as JSON, the entries of several parts of it in order."""
    opening = "{"
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        yield f'{opening}"{name}":['
        yield from separated(block for part in parts for block in getattr(part, name)())
        opening = "],"
    yield "]}"
