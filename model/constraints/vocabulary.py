"""The characters a model can draw, as llguidance takes them: each is one token."""

import numpy as np
from llguidance import LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES


class Vocabulary:
    """A model's characters by their bit in a mask, in the order of their ids.

    A text that must match is written in these alone: a byte id spells part of a character, which either has an id of
    its own or is too rare to be drawn right.

    columns: the bit of each column of the logits, -1 for one that is a byte's. ids: the id of each column.
    """

    def __init__(self, tokenizer: Tokenizer, ids: NDArray[np.int64]) -> None:
        """ids: the id of each column of the decoder's logits (S,)."""
        self.tokenizer = tokenizer
        self.ids = ids
        drawn = [int(token) for token in ids if token >= BYTES]
        self.characters = [tokenizer.characters[token - BYTES] for token in drawn]
        bits = {token: bit for bit, token in enumerate(drawn)}
        self.columns = [bits.get(int(token), -1) for token in ids]
        self.known = (1 << len(self.characters)) - 1
        self.column_bits = np.array(self.columns, np.intp)
        self.guide = guide_of(self.characters)


def guide_of(characters: list[str]) -> LLTokenizer:
    """A tokenizer of llguidance whose first tokens are the characters.

    After them come bytes: where all that may follow begins with one byte, llguidance takes it for written, and must be
    able to write it.
    """
    return LLTokenizer(TokenizerWrapper(_Characters(characters)), slices=[])


class _Characters:
    """What llguidance asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, characters: list[str]) -> None:
        spelled = [character.encode("utf-8") for character in characters]
        self._ids = {token: at for at, token in enumerate(spelled)}
        missing = [one for byte in range(256) if (one := bytes([byte])) not in self._ids]
        self._ids |= {one: at for at, one in enumerate(missing, len(spelled))}
        self._ascii = [self._ids[bytes([byte])] for byte in range(128)]
        self.tokens = [*self._ids, b"<end>"]
        self.eos_token_id = len(self._ids)
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: bytes | str) -> list[int]:
        """The tokens of a text."""
        raw = text if isinstance(text, bytes) else text.encode("utf-8")
        if raw.isascii():
            return [self._ascii[byte] for byte in raw]
        tokens, at = [], 0
        while at < len(raw):
            length = next(size for size in (4, 3, 2, 1) if raw[at : at + size] in self._ids)
            tokens.append(self._ids[raw[at : at + length]])
            at += length
        return tokens
