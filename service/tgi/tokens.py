"""Tokens as text-generation-inference writes them in JSON: id, text and log-probability."""

from collections.abc import Iterable, Iterator, Sequence

from model.text.text_stream import TextStream
from model.text.tokenizer import Tokenizer
from service.api.schemas import LEAST_LOGPROB
from service.api.sse import ENCODE
from service.engine.output import Logprobs
from service.inference.texts import TextPrompt

BLOCK = 512  # tokens of the inputs written at a time


class TokenWriter:
    """Writes the tokens of one text as JSON; their texts joined are the text.

    prompt: what the text continues. top: how many of the likeliest tokens are written beside each. written: tokens so
    far; length: characters of their text.
    """

    def __init__(self, tokenizer: Tokenizer, top: int = 0, prompt: TextPrompt | None = None) -> None:
        self._tokenizer = tokenizer
        self._stream = TextStream(tokenizer)
        self._top = top
        self.written = 0
        self.length = 0
        if prompt is not None:
            self._stream.resume(0, "", prompt.undecoded)
            self.length = len(prompt.held)

    def spell(self, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Each id with what it adds to the text: nothing while its character is not complete."""
        for token in ids:
            text = self._stream.feed([token])
            self.written += 1
            self.length += len(text)
            yield token, text

    def tokens(self, logprobs: Logprobs, whole: str | None = None) -> list[tuple[str, str]]:
        """Each drawn id, and the likeliest at its position, both as JSON. whole: the text, if the last id ends it."""
        spelled = list(self.spell(logprobs.ids.tolist()))
        if whole is not None and spelled:  # the text may end within what the last id spells
            token, text = spelled[-1]
            spelled[-1] = (token, whole[self.length - len(text) :])
        tops = self.tops(logprobs)
        return [
            (token_json(token, text, logprob), top)
            for (token, text), logprob, top in zip(spelled, logprobs.logprobs.tolist(), tops, strict=True)
        ]

    def tops(self, logprobs: Logprobs) -> Iterable[str]:
        """The likeliest tokens at each position."""
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


def prefill_json(tokenizer: Tokenizer, prompt: TextPrompt) -> Iterator[str]:
    """The tokens of the inputs; the first has no probability, as nothing stands before it."""
    if prompt.scores is None:
        return
    spell = TokenWriter(tokenizer).spell
    for start in range(0, len(prompt.ids), BLOCK):
        ids = prompt.ids[start : start + BLOCK].tolist()
        values = prompt.scores.logprobs[max(0, start - 1) : start - 1 + len(ids)].tolist()
        logprobs = [repr(max(value, LEAST_LOGPROB)) for value in values]
        logprobs = ["null"] * (len(ids) - len(logprobs)) + logprobs
        yield ",".join(
            f'{{"id":{token},"text":{ENCODE(text)},"logprob":{logprob}}}'
            for (token, text), logprob in zip(spell(ids), logprobs, strict=True)
        )
