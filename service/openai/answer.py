"""OpenAI's completion bodies: our texts as one whole answer or as a stream of events."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from service.api.error_responses import Failure
from service.api.sse import DONE, ENCODE, ServerSentEvent
from service.api.streaming import KEEP_ALIVE, StreamBytes, openai_error
from service.engine.output import Grown, Logprobs, Piece
from service.inference.served_model import ServedModel
from service.inference.texts import Texts
from service.openai.logprobs import Arrays, ArraysWriter, together
from service.openai.schemas import CompletionRequest, StreamOptions
from service.openai.stop_ids import stop_reason


class Answer:
    """The bodies of one completion's answer."""

    def __init__(self, model: ServedModel, names: list[str], body: CompletionRequest, name: str, texts: Texts) -> None:
        self._head: dict[str, Any] = {
            "id": f"cmpl-{name}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": model.fingerprint,
            "seed": texts.request.parameters.seed,
        }
        self._begin = ENCODE(self._head)[:-1] + ',"choices":['
        self._texts, self._n = texts, body.n
        self._stop_reason = partial(stop_reason, model.tokenizer, body.stop, body.stop_token_ids)
        self._options = body.stream_options or StreamOptions()
        self._echo = body.echo
        self._tokens = [0] * (len(texts.prompts) * body.n)  # of each text, as far as it was sent
        self._unechoed = {  # texts whose prompt was not sent yet
            index for index in range(len(self._tokens)) if body.echo and texts.prompts[index // body.n].tokens
        }
        self._echoed: dict[int, Arrays] = {}  # the arrays of each prompt, once they are written
        self._writers = [
            ArraysWriter(model.tokenizer, names, len(prompt.text) if body.echo else 0)
            for prompt in texts.prompts
            for _ in range(body.n)
        ]
        self._prompt_writers = [ArraysWriter(model.tokenizer, names) for _ in texts.prompts]
        self._asked = body.logprobs is not None

    @property
    def size(self) -> int:
        """About how much JSON the whole answer is, in tokens and likeliest ones beside them."""
        return self._texts.request.work(self._n if self._echo else 0) if self._asked else 0

    def whole(self, ended: Grown) -> bytes:
        """The answer that is not streamed, of every text's only piece."""
        choices = ",".join(self._choice(index, piece, echo=self._echo) for index, piece in ended)
        usage = ENCODE(self._usage(self._texts.usage().completion_tokens))
        return f'{self._begin}{choices}],"usage":{usage}}}'.encode()

    def grown(self, grown: Grown) -> Iterator[StreamBytes]:
        """The events of prompts to be echoed, one at a time, and then those of the texts, all at once."""
        if self._unechoed:
            for index in [index for index, _ in grown if index in self._unechoed]:
                yield partial(self._echo_event, index)
        if grown:
            yield self._events(grown)

    def silence(self) -> bytes:
        """A comment that keeps the stream alive."""
        return KEEP_ALIVE

    def error(self, failure: Failure) -> Iterator[bytes]:
        """The error as an event, and the end."""
        return openai_error(failure)

    def end(self) -> Iterator[StreamBytes]:
        """The usage, if asked for, and the end."""
        if self._options.include_usage:
            usage = self._usage(self._texts.usage().completion_tokens)
            yield ServerSentEvent.of_json({**self._head, "choices": [], "usage": usage}).encode()
        yield DONE.encode()

    def _events(self, grown: Grown) -> bytes:
        """An event for each text that grew, or for each character it grew by."""
        split = self._texts.request.interval == 0
        return b"".join(
            self._event(index, self._choice(index, piece), piece.tokens)
            for index, grew in grown
            for piece in (characters(grew) if split else (grew,))
        )

    def _event(self, index: int, choice: str, tokens: int) -> bytes:
        self._tokens[index] = tokens
        usage = ENCODE(self._usage(sum(self._tokens))) if self._options.continuous_usage_stats else "null"
        return ServerSentEvent(f'{self._begin}{choice}],"usage":{usage}}}').encode()

    def _echo_event(self, index: int) -> bytes:
        """The event of a text's prompt, which is scored by the time the text has grown."""
        self._unechoed.remove(index)
        return self._event(index, self._choice(index, Piece(""), echo=True), 0)

    def _choice(self, index: int, piece: Piece, echo: bool = False) -> str:
        """A text, or some of it, as JSON; with its prompt before it or not."""
        text = self._texts.prompts[index // self._n].text + piece.text if echo else piece.text
        arrays = [Arrays()] if self._asked else []
        if echo and self._asked:
            arrays.append(self._echo_arrays(index // self._n))
        if piece.logprobs is not None:
            arrays.append(self._writers[index].drawn(piece.logprobs))
        return (
            f'{{"index":{index},"text":{ENCODE(text)},"logprobs":{together(*arrays) if arrays else "null"},'
            f'"finish_reason":{ENCODE(piece.finish_reason)},"stop_reason":{ENCODE(self._stop_reason(piece.stop_reason))}}}'
        )

    def _echo_arrays(self, prompt: int) -> Arrays:
        if prompt not in self._echoed:
            self._echoed[prompt] = self._prompt_writers[prompt].prompt(self._texts.prompts[prompt])
        return self._echoed[prompt]

    def _usage(self, written: int) -> dict[str, Any]:
        usage = self._texts.usage()
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": usage.prompt_tokens + written,
            "prompt_tokens_details": {
                "cached_tokens": usage.cached_tokens,
                "unseen_characters": usage.unseen_characters,
            },
        }


def characters(piece: Piece) -> Sequence[Piece]:
    """A piece for each character of a piece; the last has the finish reason.

    Log-probabilities are divided among them if each character is one id; otherwise the piece stays whole.
    """
    if piece.logprobs is not None and len(piece.logprobs.ids) != len(piece.text):
        return [piece]
    going_on = piece._replace(finish_reason=None, stop_reason=None)
    last = len(piece.text) - 1
    return [
        *(
            going_on._replace(text=character, logprobs=_one(piece.logprobs, at))
            for at, character in enumerate(piece.text[:-1])
        ),
        piece._replace(text=piece.text[-1:], logprobs=_one(piece.logprobs, last)),
    ]


def _one(logprobs: Logprobs | None, at: int) -> Logprobs | None:
    return None if logprobs is None else logprobs.part(at, at + 1)
