"""OpenAI's completion bodies: our texts as one whole answer or as a stream of events."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from model.decoding.state import RowState
from service.api.pieces import ENTRIES, gathered, json_text
from service.api.sse import ENCODE, ENCODE_TEXT, EventIds, ServerSentEvent, done_event
from service.api.streaming import KEEP_ALIVE, StreamBytes
from service.engine.output import Grown, Logprobs, Piece
from service.inference.served_model import ServedModel
from service.inference.texts import Texts, Usage
from service.openai.logprobs import Entries, Offsets, together
from service.openai.schemas import CompletionRequest
from service.openai.stop_ids import stop_reason
from service.openai.text_fields import StreamOptions

MOST_CHARACTERS = 100_000  # of texts that are written as JSON in one go, in about a millisecond
# Characters that come in an event each, of a text and of all texts together; what has waited for its reader for longer
# comes in one event a text.
MOST_SPLIT, MOST_SPLIT_TOGETHER = 1_000, 20_000
PARTS = 256  # of JSON, in some 30 events, that are written before others have their turn
PLAIN_OPTIONS = StreamOptions()
UNFINISHED = ',"logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}\n'
"""What ends the data of an event of text alone, after which its text goes on."""


class Answer:
    """The bodies of one completion's answer. sign: makes the token of a state. ids: of a stream's events."""

    prefix = "cmpl"
    """What the ids of answers begin with."""

    def __init__(
        self,
        model: ServedModel,
        names: list[str],
        body: CompletionRequest,
        name: str,
        texts: Texts,
        sign: Callable[[RowState], str],
        ids: EventIds | None = None,
    ) -> None:
        self._head: dict[str, Any] = {
            "id": f"{self.prefix}-{name}",
            "object": self.kind_of(body.stream),
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": model.fingerprint,
            "seed": texts.request.parameters.seed,
        }
        head = (f'"{key}":{ENCODE_TEXT(one) if type(one) is str else one}' for key, one in self._head.items())
        self._begin = f'{{{",".join(head)},"choices":['
        self._texts, self._n = texts, body.n
        self._stop_reason = partial(stop_reason, model.tokenizer, body.stop, body.stop_token_ids)
        self._options = body.stream_options or PLAIN_OPTIONS
        self._echo = body.echo
        self._tokens = [0] * (len(texts.prompts) * body.n)  # of each text, as far as it was sent
        self._unechoed = {  # texts whose prompt was not sent yet
            index for index in range(len(self._tokens)) if body.echo and texts.prompts[index // body.n].tokens
        }
        self._written = 0  # their sum
        self._model, self._names = model, names
        self._asked = body.logprobs is not None
        self._offsets = [
            Offsets(model.tokenizer, len(prompt.held) + (len(prompt.text) if body.echo else 0), prompt.undecoded)
            for prompt in texts.prompts
            for _ in range(body.n if self._asked else 0)
        ]
        self._prompt_usage = Usage(0, 0, 0, 0)
        self._sign = sign
        self._ids = ids or EventIds("", len(self._tokens))
        self._unechoed -= self._ids.echoed

    def kind_of(self, stream: bool) -> str:  # noqa: ARG002
        """What an answer or an event is called."""
        return "text_completion"

    @property
    def instant(self) -> bool:
        """Whether the whole answer is written in about a millisecond."""
        request, echoes = self._texts.request, self._n if self._echo else 0
        entries = request.work(echoes) if self._asked else 0
        return entries <= ENTRIES and request.texts * request.max_tokens <= MOST_CHARACTERS

    def whole(self, ended: Grown) -> Iterator[str]:
        """The answer that is not streamed, of every text's only piece."""
        self._prompt_usage = self._texts.usage()
        yield self._begin
        comma = ""
        for index, piece in ended:
            yield comma
            yield from self._choice(index, piece, echo=self._echo)
            comma = ","
        yield f'],"usage":{self._usage(self._prompt_usage.completion_tokens)}}}'

    def grown(self, grown: Grown) -> Iterator[StreamBytes]:
        """The events of prompts to be echoed, and then those of the texts, some at a time."""
        self._prompt_usage = self._texts.usage() if self._options.continuous_usage_stats else self._prompt_usage
        if self._ids.resumed:
            grown = [(index, piece) for index, grew in grown if (piece := self._unsent(index, grew)) is not None]
        if self._unechoed:
            for index in [index for index, _ in grown if index in self._unechoed]:
                self._unechoed.remove(index)
                prompt = self._texts.prompts[index // self._n]
                yield from self._part(index, Piece(""), self._large(prompt.tokens, prompt.text), echo=True)
        split = self._texts.request.interval == 0 and sum(len(grew.text) for _, grew in grown) <= MOST_SPLIT_TOGETHER
        waiting: list[str] = []
        for index, grew in grown:
            large = self._large(grew.tokens - self._tokens[index], grew.text)
            if large:
                yield "".join(waiting).encode()
                waiting.clear()
                yield from self._part(index, grew, large)
                continue
            if not split or len(grew.text) > MOST_SPLIT:
                waiting += self._event(index, grew)
            elif self._asked or self._options.continuous_usage_stats:
                for piece in characters(grew):
                    waiting += self._event(index, piece)
            elif grew.text and grew.finish_reason is None:
                waiting += self._plain(index, grew.text)
                self._count(index, grew.tokens)
            else:
                waiting += self._plain(index, grew.text[:-1])
                waiting += self._event(index, grew._replace(text=grew.text[-1:]))
            if len(waiting) >= PARTS:
                yield "".join(waiting).encode()
                waiting.clear()
        if waiting:
            yield "".join(waiting).encode()

    def silence(self) -> bytes:
        """A comment that keeps the stream alive."""
        return KEEP_ALIVE

    def _unsent(self, index: int, grew: Piece) -> Piece | None:
        """What of a piece was not sent before this stream went on."""
        piece = self._ids.unsent(index, grew)
        if grew.logprobs is not None:
            kept = 0 if piece is None or piece.logprobs is None else len(piece.logprobs.ids)
            self._offsets[index].of(grew.logprobs.ids[: len(grew.logprobs.ids) - kept].tolist())
        if piece is None:
            self._written += grew.tokens - self._tokens[index]
            self._tokens[index] = grew.tokens
        return piece

    def end(self) -> Iterator[StreamBytes]:
        """The usage, if asked for, and the end."""
        if self._options.include_usage and not self._ids.ended:
            self._prompt_usage = self._texts.usage()
            usage = self._usage(self._prompt_usage.completion_tokens)
            yield ServerSentEvent(f'{self._begin}],"usage":{usage}}}', self._ids.end("usage")).encode()
        yield done_event(self._ids.end("done"))

    def _large(self, tokens: int, text: str) -> bool:
        """Whether an event of that number of tokens takes more than about a millisecond."""
        entries = tokens * (1 + (self._texts.request.logprobs or 0)) if self._asked else 0
        return entries > ENTRIES or len(text) > MOST_CHARACTERS

    def _part(self, index: int, piece: Piece, large: bool, echo: bool = False) -> Iterator[StreamBytes]:
        """One event: its bytes, or where it is large what makes them."""
        event = self._event(index, piece, echo)
        yield gathered(event) if large else "".join(event).encode()

    def _plain(self, index: int, text: str) -> Iterator[str]:
        """An event for each character of a text that goes on, with nothing else to tell of it."""
        begin, sent = f'data: {self._begin}{{"index":{index},"text":', self._ids.sent_more
        for character in text:
            yield f"{begin}{ENCODE_TEXT(character)}{UNFINISHED}{sent(index, 1)}\n"

    def _event(self, index: int, piece: Piece, echo: bool = False) -> Iterator[str]:
        yield f"data: {self._begin}"
        yield from self._choice(index, piece, echo)
        usage = "null"
        if not echo:
            self._count(index, piece.tokens)
        if self._options.continuous_usage_stats:
            usage = self._usage(self._written)
        line = self._ids.echo(index) if echo else self._ids.sent(index, piece)
        yield f'],"usage":{usage}}}\n{line}\n'

    def _count(self, index: int, tokens: int) -> None:
        """A text is sent up to so many tokens."""
        self._written += tokens - self._tokens[index]
        self._tokens[index] = tokens

    def _choice(self, index: int, piece: Piece, echo: bool = False) -> Iterator[str]:
        """A text, or some of it, as JSON; with its prompt before it or not."""
        prompt = self._texts.prompts[index // self._n]
        yield f'{{"index":{index},"text":'
        yield from json_text(prompt.text + piece.text if echo else piece.text)
        yield ',"logprobs":'
        if self._asked:
            arrays = [Entries.of_prompt(self._names, self._model.tokenizer, prompt)] if echo else []
            if piece.logprobs is not None:
                arrays.append(Entries.drawn(self._names, self._offsets[index], piece.logprobs))
            yield from together(*arrays)
        else:
            yield "null"
        yield from self._end_of_choice(piece)

    def _end_of_choice(self, piece: Piece) -> Iterator[str]:
        finish, found = "null", "null"
        if piece.finish_reason is not None:
            finish = f'"{piece.finish_reason}"'
            if piece.stop_reason is not None:
                found = ENCODE(self._stop_reason(piece.stop_reason))
        state = "" if piece.state is None else f',"state":"{self._sign(piece.state)}"'
        yield f',"finish_reason":{finish},"stop_reason":{found}{state}}}'

    def _usage(self, written: int) -> str:
        """The usage as JSON, of so many ids written."""
        prompt, _, cached, unseen = self._prompt_usage
        return (
            f'{{"prompt_tokens":{prompt},"completion_tokens":{written},"total_tokens":{prompt + written},'
            f'"prompt_tokens_details":{{"cached_tokens":{cached},"unseen_characters":{unseen}}}}}'
        )


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
