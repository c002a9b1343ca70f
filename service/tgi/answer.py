"""The answers and events of text-generation-inference, made from the texts of a request."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from model.decoding.state import RowState
from model.text.tokenizer import Tokenizer
from service.api.error_responses import Failure
from service.api.pieces import json_text, separated
from service.api.sse import ENCODE, EventIds
from service.api.streaming import KEEP_ALIVE, StreamBytes
from service.engine.output import Grown, Logprobs, Piece
from service.inference.best_of import mean_logprob
from service.inference.texts import TextPrompt
from service.tgi.errors import tgi_shape
from service.tgi.schemas import Parameters
from service.tgi.tokens import TokenWriter, prefill_json

BLOCK = 256  # tokens written at a time, in about a millisecond


@dataclass(frozen=True)
class Answer:
    """The answer to one request that is not streamed.

    given: its parameters. before: what every text begins with. seed: of the draws, None if nothing was drawn.
    sign: makes the token of a state.
    """

    tokenizer: Tokenizer
    given: Parameters
    before: str
    seed: int | None
    sign: Callable[[RowState], str]

    def state_json(self, piece: Piece) -> str:
        """The state after a text, if it was asked for."""
        return "" if piece.state is None else f',"state":"{self.sign(piece.state)}"'

    def json(self, ranked: Sequence[Piece], prompt: TextPrompt) -> Iterator[str]:
        """The body with all the texts, best first, in parts."""
        best, *others = ranked
        yield '{"generated_text":'
        yield from json_text(self.before + best.text)
        if not self.given.details and not self.given.decoder_input_details:
            yield f',"details":null{self.state_json(best)}}}'
            return
        yield ',"details":{'
        yield from self._about(best, prompt)
        yield ',"best_of_sequences":'
        opening = "["
        for piece in others:
            yield f'{opening}{{"generated_text":'
            yield from json_text(self.before + piece.text)
            yield ","
            yield from self._about(piece, prompt)
            yield "}"
            opening = ","
        yield f"{']' if others else 'null'}}}{self.state_json(best)}}}"

    def _about(self, piece: Piece, prompt: TextPrompt) -> Iterator[str]:
        """The details of one text."""
        assert piece.logprobs is not None
        yield f'{ending_json(piece, self.seed)},"prefill":['
        yield from separated(prefill_json(self.tokenizer, prompt))
        yield '],"tokens":['
        tokens = TokenWriter(self.tokenizer, prompt=prompt)
        blocks = list(parts(piece.logprobs, 1 + self.given.top_n_tokens))
        yield from separated(
            ",".join(token for token, _ in tokens.tokens(block, shown(piece, piece.text, block is blocks[-1])))
            for block in blocks
        )
        if not self.given.top_n_tokens:
            yield '],"top_tokens":null'
            return
        yield '],"top_tokens":['
        tops = TokenWriter(self.tokenizer, self.given.top_n_tokens)
        yield from separated(",".join(tops.tops(block)) for block in blocks)
        yield "]"


def shown(piece: Piece, whole: str, last: bool = True) -> str | None:
    """The whole text, if these are its last tokens and end in it: what a state holds back does not."""
    return None if not last or (piece.state is not None and piece.finish_reason == "length") else whole


def ranked(pieces: Sequence[Piece]) -> list[Piece]:
    """The texts of a prompt, best first."""
    return sorted(pieces, key=mean_logprob, reverse=True) if len(pieces) > 1 else list(pieces)


def ending_json(piece: Piece, seed: int | None) -> str:
    """Why a text ended, after how many tokens, and its seed."""
    complete = "eos_token" if piece.stop_reason is None else "stop_sequence"
    reason = complete if piece.finish_reason == "stop" else "length"
    return f'"finish_reason":"{reason}","generated_tokens":{piece.tokens},"seed":{ENCODE(seed)}'


class EventWriter:
    """Writes the events of one streamed text: one for each token, and with the last token the whole text."""

    def __init__(self, answer: Answer, prompt: TextPrompt, ids: EventIds) -> None:
        self._answer = answer
        self._ids = ids
        self._sent = ids.tokens
        self._input_length = prompt.tokens
        self._tokens = TokenWriter(answer.tokenizer, answer.given.top_n_tokens, prompt)
        self._text: list[str] = []

    def grown(self, grown: Grown) -> Iterator[StreamBytes]:
        """The events of what the text grew by, some at a time."""
        for _, piece in grown:
            self._text.append(piece.text)
            whole = "".join(self._text) if piece.finish_reason is not None else None
            if piece.logprobs is not None:
                blocks = list(parts(piece.logprobs, 1 + self._answer.given.top_n_tokens))
                for block in blocks:
                    yield self._block(block, piece, whole if block is blocks[-1] else None)
                if whole is not None and not blocks:
                    yield self._complete(piece, whole)

    def silence(self) -> bytes:
        """A comment that keeps the stream alive."""
        return KEEP_ALIVE

    def end(self) -> Iterator[StreamBytes]:
        """Nothing, as the event of the last token has the whole text."""
        return iter(())

    def _rest(self, piece: Piece, whole: str) -> str:
        """What the last event has besides its token."""
        details = "null"
        if self._answer.given.details:
            details = f'{{{ending_json(piece, self._answer.seed)},"input_length":{self._input_length}}}'
        state = self._answer.state_json(piece)
        return f'"generated_text":{ENCODE(self._answer.before + whole)},"details":{details}{state}'

    def _complete(self, piece: Piece, whole: str) -> bytes:
        """The last event of a text whose end is known only after its last token has been sent."""
        token = f'{{"id":{self._answer.tokenizer.size},"text":"","logprob":0.0,"special":true}}'
        index = self._tokens.written + 1
        rest, line = self._rest(piece, whole), self._ids.token(index, last=True)
        return f'data:{{"index":{index},"token":{token},"top_tokens":null,{rest}}}\n{line}\n'.encode()

    def _block(self, logprobs: Logprobs, piece: Piece, whole: str | None) -> bytes:
        """The events of some tokens; the last has the `whole` text, if given."""
        first = self._tokens.written + 1
        tokens = self._tokens.tokens(logprobs, None if whole is None else shown(piece, whole))
        rests = ['"generated_text":null,"details":null'] * len(tokens)
        if whole is not None:
            rests[-1] = self._rest(piece, whole)
        last, line = first + len(tokens) - 1 if whole is not None else 0, self._ids.token
        return "".join(
            f'data:{{"index":{index},"token":{token},"top_tokens":{top},{rest}}}\n{line(index, last=index == last)}\n'
            for index, ((token, top), rest) in enumerate(zip(tokens, rests, strict=True), first)
            if index > self._sent
        ).encode()


def tgi_error(ids: EventIds, failure: Failure) -> Iterator[bytes]:
    """The error as the last event of a stream; it has the id of the last one before."""
    _, body = tgi_shape(failure)
    yield f"data:{ENCODE(body)}\n{ids.line()}\n".encode()


def parts(logprobs: Logprobs, written: int) -> Iterator[Logprobs]:
    """The log-probabilities in blocks; `written`: tokens written for each id."""
    block = max(1, BLOCK // written)
    for start in range(0, len(logprobs.ids), block):
        yield logprobs.part(start, start + block)
