"""The answers and events of text-generation-inference, made from the texts of a request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.text.tokenizer import Tokenizer
from service.api.error_responses import Failure
from service.api.sse import ENCODE
from service.api.streaming import KEEP_ALIVE, StreamBytes
from service.engine.output import Grown, Logprobs, Piece
from service.inference.best_of import mean_logprob
from service.inference.texts import TextPrompt
from service.tgi.errors import tgi_shape
from service.tgi.schemas import Parameters
from service.tgi.tokens import TokenWriter, prefill_json

BLOCK = 500  # tokens written as events at a time, in some milliseconds


@dataclass(frozen=True)
class Answer:
    """The answer to one request that is not streamed.

    given: its parameters. before: what every text begins with. seed: of the draws, None if nothing was drawn.
    """

    tokenizer: Tokenizer
    given: Parameters
    before: str
    seed: int | None

    def json(self, pieces: Sequence[Piece], prompt: TextPrompt) -> tuple[str, Piece]:
        """The body with all the texts, and the best of them."""
        ranked = sorted(pieces, key=mean_logprob, reverse=True) if len(pieces) > 1 else list(pieces)
        best, *others = ranked
        details = "null"
        if self.given.details or self.given.decoder_input_details:
            prefill = prefill_json(self.tokenizer, prompt)
            rest = [
                f'{{"generated_text":{ENCODE(self.before + piece.text)},{self._about(piece, prefill)}}}'
                for piece in others
            ]
            sequences = f"[{','.join(rest)}]" if rest else "null"
            details = f'{{{self._about(best, prefill)},"best_of_sequences":{sequences}}}'
        return f'{{"generated_text":{ENCODE(self.before + best.text)},"details":{details}}}', best

    def _about(self, piece: Piece, prefill: str) -> str:
        """The details of one text."""
        assert piece.logprobs is not None
        written = TokenWriter(self.tokenizer, self.given.top_n_tokens).tokens(piece.logprobs, piece.text)
        tops = f"[{','.join(top for _, top in written)}]" if self.given.top_n_tokens else "null"
        ending = ending_json(piece, self.seed)
        return f'{ending},"prefill":{prefill},"tokens":[{",".join(token for token, _ in written)}],"top_tokens":{tops}'


def ending_json(piece: Piece, seed: int | None) -> str:
    """Why a text ended, after how many tokens, and its seed."""
    complete = "eos_token" if piece.stop_reason is None else "stop_sequence"
    reason = complete if piece.finish_reason == "stop" else "length"
    return f'"finish_reason":"{reason}","generated_tokens":{piece.tokens},"seed":{ENCODE(seed)}'


class EventWriter:
    """Writes the events of one streamed text: one for each token, and with the last token the whole text."""

    def __init__(self, answer: Answer, input_length: int) -> None:
        self._answer = answer
        self._input_length = input_length
        self._tokens = TokenWriter(answer.tokenizer, answer.given.top_n_tokens)
        self._text: list[str] = []

    def grown(self, grown: Grown) -> Iterator[StreamBytes]:
        """The events of what the text grew by, some at a time."""
        for _, piece in grown:
            self._text.append(piece.text)
            whole = "".join(self._text) if piece.finish_reason is not None else None
            if piece.logprobs is not None:
                ids = len(piece.logprobs.ids)
                for start in range(0, ids, BLOCK):
                    last = start + BLOCK >= ids
                    yield self._block(part(piece.logprobs, start), piece, whole if last else None)
                if whole is not None and not ids:
                    yield self._complete(piece, whole)

    def silence(self) -> bytes:
        """A comment that keeps the stream alive."""
        return KEEP_ALIVE

    def error(self, failure: Failure) -> Iterator[bytes]:
        """The error as the last event."""
        _, body = tgi_shape(failure)
        yield f"data:{ENCODE(body)}\n\n".encode()

    def end(self) -> Iterator[StreamBytes]:
        """Nothing, as the event of the last token has the whole text."""
        return iter(())

    def _rest(self, piece: Piece, whole: str) -> str:
        """What the last event has besides its token."""
        details = "null"
        if self._answer.given.details:
            details = f'{{{ending_json(piece, self._answer.seed)},"input_length":{self._input_length}}}'
        return f'"generated_text":{ENCODE(self._answer.before + whole)},"details":{details}'

    def _complete(self, piece: Piece, whole: str) -> bytes:
        """The last event of a text whose end is known only after its last token has been sent."""
        token = f'{{"id":{self._answer.tokenizer.size},"text":"","logprob":0.0,"special":true}}'
        index = self._tokens.written + 1
        return f'data:{{"index":{index},"token":{token},"top_tokens":null,{self._rest(piece, whole)}}}\n\n'.encode()

    def _block(self, logprobs: Logprobs, piece: Piece, whole: str | None) -> bytes:
        """The events of some tokens; the last has the `whole` text, if given."""
        first = self._tokens.written + 1
        tokens = self._tokens.tokens(logprobs, whole)
        rests = ['"generated_text":null,"details":null'] * len(tokens)
        if whole is not None:
            rests[-1] = self._rest(piece, whole)
        return "".join(
            f'data:{{"index":{index},"token":{token},"top_tokens":{top},{rest}}}\n\n'
            for index, ((token, top), rest) in enumerate(zip(tokens, rests, strict=True), first)
        ).encode()


def part(logprobs: Logprobs, start: int) -> Logprobs:
    """The log-probabilities of one block of tokens."""
    block = slice(start, start + BLOCK)
    return Logprobs(
        logprobs.ids[block], logprobs.logprobs[block], logprobs.top_ids[block], logprobs.top_logprobs[block]
    )
