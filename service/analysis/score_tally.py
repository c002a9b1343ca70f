"""The scores of texts as they come from the engine: added up in constant memory, or kept for every character."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from model.decoding.rows import Scored
from model.decoding.state import RowState
from model.surprise_sum import BITS, SurpriseSum
from model.text.prompt import count_unseen
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids, begins_character
from service.api.pieces import ENTRIES
from service.engine.prompt_scores import PromptScores, Slice
from service.inference.served_model import ServedModel


class Before:
    """What is read before a text: the context, or a line break; nothing where texts are items or come after a state.

    text: that. tokens: ids of it; unseen: characters of it that training never showed. skip: ids of the whole prompt
        that stand before the text's own.
    context_tokens, context_unseen: the same of a context; 0 without one.
    """

    def __init__(self, model: ServedModel, context: str | None, beginning: RowState | None = None) -> None:
        tokenizer = model.tokenizer
        nothing = tokenizer.frame.items or beginning is not None
        self.text = context or ("" if nothing else tokenizer.piece(tokenizer.start_id))
        ids = tokenizer.encode(self.text)
        self.tokens = len(ids)
        lead = len(tokenizer.opening(empty=False)) if beginning is None else 1  # the id that the state reads next
        self.skip = lead + self.tokens
        self.unseen = count_unseen(ids, model.decoder.ids)
        self.context_tokens, self.context_unseen = (self.tokens, self.unseen) if context else (0, 0)


class Tally:
    """Takes slices of a prompt's scores, in order, and adds up those after the first `skip` ids.

    scores: also keeps them, if given. read: ids of the prompt whose scores have come.
    """

    def __init__(self, skip: int, scores: PromptScores | None = None) -> None:
        self.scores = scores
        self.read = 0
        self._skip = skip
        self._sum = SurpriseSum()

    def take(self, slice_: Slice) -> None:
        """Add the scores of some ids."""
        logprobs = slice_.scored.logprobs
        self.read = slice_.start + len(logprobs)
        if self.scores is not None:
            self.scores.keep(slice_)
        self._sum.add(logprobs[max(0, self._skip - slice_.start) :])

    @property
    def nats(self) -> float:
        """-ln of the probability of the ids added up."""
        return self._sum.nats


def details(tokenizer: Tokenizer, text: str, ids: Ids, kept: Scored) -> Iterator[list[dict[str, Any]]]:
    """Every character of a text with its score, as `CharacterScore` has it, some characters at a time.

    ids: of the text (T,). kept: the scores of a prompt that ends with the text, (P,) and (P, N) with P ≥ T.
    """
    parts: list[Any] = [part if part is None else part[len(part) - len(ids) :] for part in kept]
    scores = Scored(*parts)
    assert scores.ranks is not None
    assert scores.entropies is not None
    assert scores.top_ids is not None
    assert scores.top_logprobs is not None
    every = np.flatnonzero(begins_character(ids))  # the ids that characters begin with
    if not len(every):
        return
    bits = np.add.reduceat(scores.logprobs.astype(np.float64), every) * -BITS
    block = max(1, ENTRIES // (4 + 2 * scores.top_ids.shape[1]))
    for start in range(0, len(every), block):
        firsts = every[start : start + block]
        rows: list[dict[str, Any]] = [
            {"character": character, "bits": own, "rank": rank, "entropy_bits": entropy, "alternatives": None}
            for character, own, rank, entropy in zip(
                text[start : start + block],
                bits[start : start + block].tolist(),
                (scores.ranks[firsts] + 1).tolist(),
                (scores.entropies[firsts].astype(np.float64) * BITS).tolist(),
                strict=True,
            )
        ]
        if scores.top_ids.shape[1]:
            probabilities = np.exp(scores.top_logprobs[firsts].astype(np.float64)).clip(max=1).tolist()
            for row, tokens, shares in zip(rows, scores.top_ids[firsts].tolist(), probabilities, strict=True):
                row["alternatives"] = [
                    {"character": tokenizer.piece(token), "probability": share}
                    for token, share in zip(tokens, shares, strict=True)
                ]
        yield rows
