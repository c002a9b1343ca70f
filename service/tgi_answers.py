"""Between one request of ours and the dialect of text-generation-inference: fields there, JSON of tokens back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.sampling import SamplingParameters
from model.text_stream import TextStream
from model.tokenizer import Tokenizer
from service.answering import random_seed
from service.output import Logprobs, Piece
from service.sse import ENCODE
from service.texts import TextPrompt, TextRequest
from service.tgi_schemas import Parameters

LEAST_LOGPROB = -9999.0  # JSON has no infinity
BLOCK = 500  # tokens made events at a time, in some milliseconds
REASONS = {"stop": "stop_sequence", "length": "length"}


def draws(given: Parameters) -> bool:
    """Whether characters are drawn: if told so, and by every parameter that would make no difference otherwise."""
    return given.do_sample or any(value is not None for value in (given.temperature, given.top_k, given.top_p))


def sampling(given: Parameters) -> SamplingParameters:
    """How the characters are drawn; a seed that nobody sent is made here."""
    temperature = given.temperature or 1.0
    return SamplingParameters(
        temperature=temperature if draws(given) else 0.0,
        top_k=given.top_k or 0,
        top_p=given.top_p or 1.0,
        repetition_penalty=given.repetition_penalty,
        frequency_penalty=given.frequency_penalty,
        seed=random_seed() if given.seed is None else given.seed,
    )


def text_request(
    tokenizer: Tokenizer, inputs: str, given: Parameters, *, interval: float | None, namespace: bytes
) -> TextRequest:
    """The same as a request of ours; `interval` is None where the text is not streamed."""
    told = interval is not None or given.details or given.decoder_input_details or given.best_of > 1
    return TextRequest(
        prompts=[truncated(tokenizer, inputs, given.truncate)],
        parameters=sampling(given),
        max_tokens=given.max_new_tokens,
        n=given.best_of,
        stop=given.stop,
        include_stop=True,
        logprobs=given.top_n_tokens if told else None,
        prompt_logprobs=0 if given.decoder_input_details else None,
        interval=interval,
        namespace=namespace,
    )


def truncated(tokenizer: Tokenizer, inputs: str, most: int | None) -> str | list[int]:
    """The inputs, or the last of their ids where there are more than asked for."""
    if most is None:
        return inputs
    ids = tokenizer.encode(inputs)
    return inputs if len(ids) <= most else ids[-most:].tolist()


class TokenWriter:
    """Writes the tokens of one text as JSON; their texts joined are the text.

    top: how many of the likeliest are written beside each. written: how many tokens there are so far; length: how many
    characters they spell.
    """

    def __init__(self, tokenizer: Tokenizer, top: int = 0) -> None:
        self._tokenizer = tokenizer
        self._stream = TextStream(tokenizer)
        self._top = top
        self.written = 0
        self.length = 0

    def spell(self, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Each id with what it adds to the text: nothing while its character is not whole."""
        for token in ids:
            text = self._stream.feed([token])
            self.written += 1
            self.length += len(text)
            yield token, text

    def tokens(self, logprobs: Logprobs, whole: str | None = None) -> list[tuple[str, str]]:
        """Each drawn id, and the likeliest in its place, both as JSON. `whole` is the text that the last one ends."""
        spelled = list(self.spell(logprobs.ids.tolist()))
        if whole is not None and spelled:  # of an id that spells two characters the text may have but the first
            token, text = spelled[-1]
            spelled[-1] = (token, whole[self.length - len(text) :])
        tops = self._tops(logprobs)
        return [
            (token_json(token, text, logprob), top)
            for (token, text), logprob, top in zip(spelled, logprobs.logprobs.tolist(), tops, strict=True)
        ]

    def _tops(self, logprobs: Logprobs) -> Iterable[str]:
        if not self._top:
            return ["null"] * len(logprobs.ids)
        piece = self._tokenizer.piece
        return (
            f"[{','.join(token_json(token, piece(token), value) for token, value in zip(ids, values, strict=True))}]"
            for ids, values in zip(logprobs.top_ids.tolist(), logprobs.top_logprobs.tolist(), strict=True)
        )


def token_json(token: int, text: str, logprob: float) -> str:
    """One token of a text."""
    return f'{{"id":{token},"text":{ENCODE(text)},"logprob":{max(logprob, LEAST_LOGPROB)!r},"special":false}}'


def prefill_json(tokenizer: Tokenizer, prompt: TextPrompt) -> str:
    """The tokens of the inputs; the first has no probability, as nothing stands before it."""
    if prompt.scores is None:
        return "[]"
    logprobs = ["null", *(repr(max(value, LEAST_LOGPROB)) for value in prompt.scores.logprobs.tolist())]
    spelled = TokenWriter(tokenizer).spell(prompt.ids.tolist())
    tokens = (
        f'{{"id":{token},"text":{ENCODE(text)},"logprob":{logprob}}}'
        for (token, text), logprob in zip(spelled, logprobs, strict=False)
    )
    return f"[{','.join(tokens)}]"


def mean_logprob(piece: Piece) -> float:
    """How likely the tokens of a whole text are on average."""
    return float(piece.logprobs.logprobs.mean(dtype=np.float64)) if piece.logprobs is not None else 0.0


@dataclass(frozen=True)
class Answer:
    """The answer to one request that is not streamed.

    given: its parameters; before: what every text begins with. seed: of the draws, None where nothing was drawn.
    """

    tokenizer: Tokenizer
    given: Parameters
    before: str
    seed: int | None

    def json(self, pieces: Sequence[Piece], prompt: TextPrompt) -> tuple[str, Piece]:
        """The body, of every text that was written, and the best of them."""
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
    """Why and after how many tokens a text ended, and what it was drawn with."""
    reason = REASONS[piece.finish_reason or "length"]
    return f'"finish_reason":"{reason}","generated_tokens":{piece.tokens},"seed":{ENCODE(seed)}'


class EventWriter:
    """Writes the events of one streamed text: one for each token, the last with the whole text."""

    def __init__(self, answer: Answer, input_length: int) -> None:
        self._answer = answer
        self._input_length = input_length
        self._tokens = TokenWriter(answer.tokenizer, answer.given.top_n_tokens)
        self._text: list[str] = []

    def events(self, piece: Piece) -> Iterator[str]:
        """The events of what the text grew by, some at a time."""
        self._text.append(piece.text)
        whole = "".join(self._text) if piece.finish_reason is not None else None
        if piece.logprobs is not None:
            ids = len(piece.logprobs.ids)
            for start in range(0, ids, BLOCK):
                last = start + BLOCK >= ids
                yield self._block(part(piece.logprobs, start), piece, whole if last else None)

    def _block(self, logprobs: Logprobs, piece: Piece, whole: str | None) -> str:
        """The events of some tokens, with the `whole` text in the last of all."""
        first = self._tokens.written + 1
        tokens = self._tokens.tokens(logprobs, whole)
        rests = ['"generated_text":null,"details":null'] * len(tokens)
        if whole is not None:
            details = "null"
            if self._answer.given.details:
                details = f'{{{ending_json(piece, self._answer.seed)},"input_length":{self._input_length}}}'
            rests[-1] = f'"generated_text":{ENCODE(self._answer.before + whole)},"details":{details}'
        return "".join(
            f'data:{{"index":{index},"token":{token},"top_tokens":{top},{rest}}}\n\n'
            for index, ((token, top), rest) in enumerate(zip(tokens, rests, strict=True), first)
        )


def part(logprobs: Logprobs, start: int) -> Logprobs:
    """Those of one block of tokens."""
    block = slice(start, start + BLOCK)
    return Logprobs(
        logprobs.ids[block], logprobs.logprobs[block], logprobs.top_ids[block], logprobs.top_logprobs[block]
    )


def error_event(error: Mapping[str, Any]) -> str:
    """An error in the middle of a stream, which is its last event."""
    return f"data:{ENCODE(error)}\n\n"
