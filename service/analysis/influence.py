"""The influence of one character on those after it: the text as it stands and changed, read side by side."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.sampling.parameters import SamplingParameters
from model.surprise_sum import BITS
from model.text.utf8_ids import Ids, begins_character
from service.analysis.inspect_answer import AFTER, usage_of
from service.analysis.inspect_schemas import FELT, InfluenceRequest
from service.analysis.score_tally import Before
from service.api.pieces import separated
from service.api.sse import ENCODE
from service.engine.prompt_scores import Slice, weakly
from service.engine.text_request import TextRequest
from service.inference.served_model import ServedModel
from service.inference.texts import Texts

COMPARED = 65_536  # probabilities that are compared in one step


class InfluenceAnswer:
    """The answer to one request, from the scores that come while both texts are read.

    common: what both begin with. text: of the window, in both.
    """

    def __init__(self, model: ServedModel, body: InfluenceRequest) -> None:
        self.model, self.body = model, body
        self.before = Before(model, body.context)
        at = body.position
        self.common = self.before.text + body.text[:at]
        self.text = body.text[at + 1 : at + 1 + body.window]
        self.cached = 0
        encode = model.tokenizer.encode
        self._middles = body.text[at], body.replacement or ""
        self._skip = self.before.skip + len(encode(body.text[:at]))
        self._skips = [self._skip + len(encode(middle)) for middle in self._middles]
        self._ids: Ids = encode(self.text)
        self._logprobs = np.zeros((2, len(self._ids)), np.float32)
        self._every = np.zeros((2, len(self._ids), model.tokenizer.size), np.float32)
        self._usage: dict[str, Any]

    def request(self, origin: Mapping[str, Any]) -> TextRequest:
        """The request to the engine."""
        return TextRequest(
            prompts=[self.common + middle + self.text + AFTER for middle in self._middles],
            parameters=SamplingParameters(),
            max_tokens=0,
            prompt_logprobs=self.model.tokenizer.size,
            on_scores=weakly(self.take),
            unscored=self._skip,
            **origin,
        )

    def expect(self, texts: Texts) -> None:
        """Note what both readings take."""
        tokens = sum(prompt.tokens - self.before.tokens - 1 for prompt in texts.prompts)
        after = self.model.knows(AFTER)
        unseen = texts.prompts[0].unseen - self.before.unseen - (not after)
        self._usage = usage_of(self.before, tokens + self.before.context_tokens, self.cached, unseen)

    def take(self, index: int, slice_: Slice) -> None:
        """Keep the scores of one of the two readings, as far as they are of the window."""
        scored = slice_.scored
        assert scored.top_ids is not None
        assert scored.top_logprobs is not None
        first = max(0, self._skips[index] - slice_.start)
        at = slice_.start + first - self._skips[index]
        last = first + max(0, min(len(scored.logprobs) - first, len(self._ids) - at))
        if last > first:
            to = slice(at, at + last - first)
            self._logprobs[index, to] = scored.logprobs[first:last]
            np.put_along_axis(self._every[index, to], scored.top_ids[first:last], scored.top_logprobs[first:last], 1)

    def parts(self) -> Iterator[str]:
        """The answer as JSON, once both texts are read."""
        firsts = np.flatnonzero(begins_character(self._ids))
        if not len(firsts):
            yield ENCODE({**self._about(0.0, None), "details": []})
            return
        bits = np.add.reduceat(self._logprobs.astype(np.float64), firsts, axis=1) * -BITS
        divergences = np.concatenate([*self._divergences(firsts)])
        far = np.flatnonzero(divergences >= FELT)
        about = self._about(float((bits[1] - bits[0]).sum()), int(far[-1]) + 1 if len(far) else None)
        yield ENCODE(about)[:-1] + ',"details":['
        numbers = zip(self.text, *bits.tolist(), divergences.tolist(), strict=True)
        yield from separated(
            ENCODE(
                {
                    "character": character,
                    "bits": own,
                    "changed_bits": changed,
                    "difference": changed - own,
                    "divergence_bits": divergence,
                }
            )
            for character, own, changed, divergence in numbers
        )
        yield "]}"

    def _about(self, total: float, felt: int | None) -> dict[str, Any]:
        """All but what is said of each character."""
        return {
            "object": "influence",
            "model": self.model.name,
            "position": self.body.position,
            "character": self._middles[0],
            "replacement": self._middles[1] or None,
            "total_difference": total,
            "felt": felt,
            "usage": self._usage,
        }

    def _divergences(self, firsts: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
        """Σ p log2 (p / q) at the first id of each character: p as the text stands, q after the change."""
        step = max(1, COMPARED // self._every.shape[2])
        for start in range(0, len(firsts), step):
            p, q = self._every[:, firsts[start : start + step]].astype(np.float64)
            yield ((np.exp(p) * (p - q)).sum(axis=1) * BITS).clip(min=0)
