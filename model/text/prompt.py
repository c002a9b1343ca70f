"""A prompt as ids, and the characters of it that training never showed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.errors import ParameterError
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES, Ids, begins_character

BLOCK = 1 << 16  # ids that are looked at together, which bounds the working memory


class Prompt:
    """A prompt as the decoder reads it, of text or of ids.

    Raises TokenizerError on text that is not Unicode, ParameterError on a number that is not an id.

    tokens: how many ids it has.
    after: the id that was read last, where the prompt goes on after a state; it is read in place of what begins a text.
    ids: what is read before the first character is drawn (n,), n ≥ 1. An item is read after the id that begins one,
        whatever its first characters are; elsewhere an empty prompt reads the checkpoint's context, or a line break
        where it has none, as if a new line had just begun.
    lead: how many of the ids stand before the prompt's own.
    unseen: how many characters of the prompt never occurred in training; they are read as UTF-8 bytes or as
        characters the network knows nothing of.
    """

    def __init__(
        self, tokenizer: Tokenizer, seen: NDArray[np.int64], prompt: str | Sequence[int], after: int | None = None
    ) -> None:
        encoded = tokenizer.encode(prompt) if isinstance(prompt, str) else known_ids(prompt, tokenizer.size)
        self.tokens = len(encoded)
        self.unseen = count_unseen(encoded, seen)
        opening = tokenizer.opening(empty=not len(encoded)) if after is None else [after]
        self.lead = len(opening)
        self._stands_in = after is None and not self.tokens and self.lead <= 1
        self.ids: NDArray[np.int32] = encoded.astype(np.int32)
        if opening:
            self.ids = np.concatenate([np.array(opening, np.int32), self.ids])

    @property
    def penalised(self) -> NDArray[np.int32]:
        """The prompt's own ids; for an empty prompt the line break, where one stands for it."""
        return self.ids if self._stands_in else self.ids[self.lead :]


def known_ids(ids: Sequence[int], size: int) -> NDArray[np.int64]:
    """The ids (n,) of a prompt. Raises ParameterError where one of them is not among the `size` there are."""
    wrong = next((token for token in (min(ids), max(ids)) if not 0 <= token < size), None) if len(ids) else None
    if wrong is not None:
        message = f"The prompt has the id {str(wrong)[:20]}; this model's ids are 0 to {size - 1:,}."
        raise ParameterError("prompt", message)
    return np.array(ids, np.int64)


def count_unseen(ids: Ids, seen: NDArray[np.int64]) -> int:
    """Characters among the ids that training never showed; the bytes of one character count once.

    seen: ids that it did show, ascending (S,), S ≥ 1.
    """
    count = 0
    for start in range(0, len(ids), BLOCK):
        block = ids[start : start + BLOCK]
        strange = (block < BYTES) | (seen.take(seen.searchsorted(block), mode="clip") != block)
        if np.count_nonzero(strange):  # in a third of the time of `any`, which a short request waits for
            count += int(np.count_nonzero(strange & begins_character(block)))
    return count
