"""Text to character ids and back: one id per code point of the corpus, UTF-8 byte ids for every other."""

import json
from collections.abc import Iterable
from copy import copy
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from model.errors import TokenizerError
from model.strict_json import parse_json
from model.text.frame import PLAIN, START, TextFrame
from model.text.utf8_ids import BYTES, Ids

BLOCK = 1 << 16  # characters encoded at a time: bounds the working memory, and fits a core's cache


def code_points(text: str, before: int = 0) -> NDArray[np.uint32]:
    """The text as an array of code points. Raises TokenizerError on half of a surrogate pair.

    before: characters of the whole text that stand before this block of it.
    """
    try:
        return np.frombuffer(text.encode("utf-32-le"), np.uint32)
    except UnicodeEncodeError as error:
        at = before + error.start
        raise TokenizerError(
            f"The text has half of a surrogate pair at character {at:,}; send whole Unicode characters."
        ) from None


class CharacterCounts:
    """How often each code point occurs, added up over blocks of text in constant memory."""

    def __init__(self) -> None:
        self.counts = np.zeros(0x110000, np.int64)

    def update(self, text: str) -> None:
        """Count one more block of text."""
        for start in range(0, len(text), BLOCK):
            block = np.bincount(code_points(text[start : start + BLOCK], start))
            self.counts[: len(block)] += block

    def frequent(self, min_count: int) -> str:
        """Every character that occurs at least `min_count` times, sorted by code point."""
        return "".join(map(chr, np.flatnonzero(self.counts >= max(1, min_count)).tolist()))


class Tokenizer:
    """A vocabulary of single characters with UTF-8 byte fallback.

    Ids 0 … 255 are bytes; the characters follow in the order given. A character outside the vocabulary
    becomes its UTF-8 bytes, so every Unicode string encodes, and decodes back to itself.

    frame: how the texts of its model begin and end, as other tokenizers have a first and a last token.
    """

    def __init__(self, characters: str, frame: TextFrame = PLAIN) -> None:
        if len(set(characters)) != len(characters) or not characters:
            raise TokenizerError("A vocabulary needs at least one character, each once.")
        self.characters, self.frame = characters, frame
        self.size = BYTES + len(characters)
        self.dtype = np.dtype(np.uint16 if self.size < 2**16 else np.uint32)
        points = code_points(characters)
        # One entry past the largest character: characters beyond it are clipped onto it, and are unknown.
        self._ids = np.full(int(points.max()) + 2, self.size, self.dtype)
        self._ids[points] = np.arange(BYTES, self.size, dtype=self.dtype)
        self.pieces: list[str | None] = [None] * BYTES + list(characters)

    @classmethod
    def learn(cls, texts: Iterable[str], min_count: int = 1) -> "Tokenizer":
        """The vocabulary of some texts; a character rarer than `min_count` is left to the bytes."""
        counts = CharacterCounts()
        for text in texts:
            counts.update(text)
        return cls(counts.frequent(min_count))

    @property
    def start_id(self) -> int:
        """The id that stands before an empty prompt: a line break, or the first character where there is none."""
        return BYTES + max(0, self.characters.find("\n"))

    def framed(self, frame: TextFrame) -> "Tokenizer":
        """The same vocabulary for texts that begin and end so."""
        framed = copy(self)  # which shares the tables
        framed.frame = frame
        return framed

    def opening(self, empty: bool) -> list[int]:
        """The ids read before a prompt's own, which may be none but for an empty prompt.

        empty: whether the prompt is.
        """
        if self.frame.items:
            return [START]
        if not empty:
            return []
        return self.encode(self.frame.context).tolist() or [self.start_id]

    def encode(self, text: str) -> Ids:
        """Ids (n,) of the text, uint16 while the vocabulary fits; n ≥ len(text), equal when all are known.

        Raises TokenizerError on a lone surrogate, which no encoding of text can hold.
        """
        if len(text) <= BLOCK:
            return self._encode_block(text, 0)
        return self.encode_all([text])

    def encode_all(self, texts: Iterable[str]) -> Ids:
        """The ids of several texts one after the other, in hardly more memory than the ids themselves."""
        ids, used = np.empty(0, self.dtype), 0
        for text in texts:
            for start in range(0, len(text), BLOCK):
                block = self._encode_block(text[start : start + BLOCK], start)
                if used + len(block) > len(ids):  # grown in place: no second copy stands beside the first
                    ids.resize(max(used + len(block), len(ids) * 5 // 4), refcheck=False)
                ids[used : used + len(block)] = block
                used += len(block)
        ids.resize(used, refcheck=False)
        return ids

    def _encode_block(self, text: str, before: int) -> Ids:
        points = code_points(text, before)
        ids = self._ids.take(points, mode="clip")
        unknown = ids == self.size
        if not np.count_nonzero(unknown):
            return ids
        strange = points[unknown]
        lengths = np.ones(len(points), np.intp)
        lengths[unknown] += (strange >= 0x80).astype(np.intp) + (strange >= 0x800) + (strange >= 0x10000)
        spread = np.repeat(ids, lengths)
        spread[np.repeat(unknown, lengths)] = np.frombuffer(
            strange.tobytes().decode("utf-32-le").encode("utf-8"), np.uint8
        )
        return spread

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; bytes that are not UTF-8 become U+FFFD."""
        parts = (bytes([i]) if i < BYTES else self.characters[i - BYTES].encode("utf-8") for i in ids)
        return b"".join(parts).decode("utf-8", errors="replace")

    def piece(self, token: int) -> str:
        """How an id is shown on its own: its character, or <0xE4> for a byte."""
        return self.pieces[token] or f"<0x{token:02X}>"

    def to_json(self) -> str:
        """The vocabulary as a `tokenizer.json` that Hugging Face `tokenizers` loads and encodes with alike."""
        vocabulary = {self.piece(token): token for token in range(self.size)}
        library = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
        library.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()])
        return str(library.to_str(pretty=True))

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Read what `to_json` wrote. Raises TokenizerError on anything else, however close."""
        try:
            written = parse_json(text)
            model = written.get("model") if isinstance(written, dict) else None
            if not isinstance(model, dict):
                raise ValueError("it has no model")
            tokenizer = cls(_characters(model.pop("vocab", None)))
        except (ValueError, TokenizerError) as error:
            raise TokenizerError(f"This is not a tokenizer.json of Unroll ({str(error).rstrip('.')}).") from error
        ours = json.loads(cls("a").to_json())  # beside their characters, all vocabularies of ours are the same
        del ours["model"]["vocab"]
        if not _alike(ours, written):
            raise TokenizerError(
                "This tokenizer.json is not a character vocabulary with byte fallback as Unroll writes it."
            )
        return tokenizer


def _characters(vocabulary: Any) -> str:
    """The characters of a written vocabulary, in the order of their ids. Raises ValueError on any other vocabulary."""
    if not isinstance(vocabulary, dict) or not set(map(type, vocabulary.values())) <= {int}:
        raise ValueError("its vocabulary is not a table of whole numbers")
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    if list(map(vocabulary.__getitem__, pieces)) != list(range(len(pieces))):
        raise ValueError("its ids are not 0, 1, 2, …, each once")
    if pieces[:BYTES] != [f"<0x{byte:02X}>" for byte in range(BYTES)]:
        raise ValueError("its first 256 ids are not the bytes")
    if not set(map(len, pieces[BYTES:])) == {1}:
        raise ValueError("its other ids are not one character each, or there is none")
    return "".join(pieces[BYTES:])


def _alike(ours: Any, written: Any) -> bool:
    """Whether two settings mean the same; what one version of the library leaves out, another writes as nothing."""
    if isinstance(ours, dict) and isinstance(written, dict):
        return all(_alike(ours.get(key), written.get(key)) for key in ours.keys() | written.keys())
    return bool((type(ours) is type(written) and ours == written) or not (ours or written))
