"""A chat's bodies: those of a completion whose texts are messages, and pieces of texts deltas."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from model.text.utf8_ids import BYTES
from service.api.pieces import ENTRIES, json_text, separated
from service.api.schemas import LEAST_LOGPROB
from service.api.sse import ENCODE
from service.engine.output import Logprobs, Piece
from service.openai.answer import Answer


class ChatAnswer(Answer):
    """The bodies of an answer to a chat."""

    prefix = "chatcmpl"

    def __init__(self, *about: Any, **more: Any) -> None:
        self._stream = False
        super().__init__(*about, **more)
        # answers of which nothing was sent, also before a stream that goes on
        self._unbegun = {index for index in range(len(self._tokens)) if not self._ids.begun(index)}

    def kind_of(self, stream: bool) -> str:
        """What an answer or an event is called."""
        self._stream = stream
        return "chat.completion.chunk" if stream else "chat.completion"

    def _choice(self, index: int, piece: Piece, echo: bool = False) -> Iterator[str]:  # noqa: ARG002
        """An answer, or some of it, as JSON."""
        yield f'{{"index":{index},"{"delta" if self._stream else "message"}":'
        if not self._stream or index in self._unbegun:
            self._unbegun.discard(index)
            yield '{"role":"assistant","content":'
            yield from json_text(piece.text)
            yield "}" if self._stream else ',"refusal":null}'
        elif piece.text:
            yield '{"content":'
            yield from json_text(piece.text)
            yield "}"
        else:
            yield "{}"
        yield ',"logprobs":'
        if self._asked and piece.logprobs is not None:
            yield '{"content":['
            yield from separated(entries(self._names, piece.logprobs))
            yield '],"refusal":null}'
        else:
            yield '{"content":[],"refusal":null}' if self._asked else "null"
        yield from self._end_of_choice(piece)

    def _plain(self, index: int, text: str) -> Iterator[str]:
        """An event for each character of a text that goes on: a delta, which has no template."""
        for character in text:
            yield from self._event(index, Piece(character))


def entries(names: list[str], logprobs: Logprobs) -> Iterator[str]:
    """An entry for each token, as JSON, a block at a time."""
    block = max(1, ENTRIES // (3 * (1 + logprobs.top_ids.shape[1])))
    for start in range(0, len(logprobs.ids), block):
        part = logprobs.part(start, start + block)
        values = np.maximum(part.logprobs, LEAST_LOGPROB).tolist()
        tops = np.maximum(part.top_logprobs, LEAST_LOGPROB).tolist()
        found = [
            {
                **entry(names, token, value),
                "top_logprobs": [entry(names, other, theirs) for other, theirs in zip(ids, others, strict=True)],
            }
            for token, value, ids, others in zip(part.ids.tolist(), values, part.top_ids.tolist(), tops, strict=True)
        ]
        yield ENCODE(found)[1:-1]


def entry(names: list[str], token: int, logprob: float) -> dict[str, Any]:
    """What is said of one token."""
    spelt = [token] if token < BYTES else list(names[token].encode())
    return {"token": names[token], "logprob": logprob, "bytes": spelt}
