"""Pieces of words written as characters: a sentence of 31 letters becomes a text of 11 for the same network."""

import io
from collections.abc import Iterable
from pathlib import Path

FIRST = 0xE000  # of Unicode's private use area, where piece 0 is
MOST = 6_400  # characters that it has


class Pieces:
    """Byte pair encoding (Sennrich et al. 2016) of both languages by SentencePiece, a piece written as one character.

    model: what SentencePiece has learnt, as bytes.
    """

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_proto=model)

    @classmethod
    def learnt(cls, texts: Iterable[str], size: int, file: Path) -> "Pieces":
        """Pieces of some texts, kept in a file. size: how many, at most 6,400."""
        from sentencepiece import SentencePieceTrainer

        written = io.BytesIO()
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=written,
            model_type="bpe",
            vocab_size=min(size, MOST),
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        file.write_bytes(written.getvalue())
        return cls(written.getvalue())

    def written(self, text: str) -> str:
        """A text in pieces, a character each."""
        return "".join(chr(FIRST + number) for number in self._processor.encode(text))

    def read(self, written: str) -> str:
        """The text that pieces spell; other characters are left out."""
        numbers = [ord(one) - FIRST for one in written]
        text: str = self._processor.decode([one for one in numbers if 0 <= one < self._processor.get_piece_size()])
        return text

    def question(self, source: str) -> str:
        """What the network reads of a sentence: its pieces from the last to the first, and a tabulator.

        Turned round, the first words of both languages are close to each other (Sutskever et al. 2014).
        """
        return self.written(source)[::-1] + "\t"

    def item(self, source: str, target: str) -> str:
        """A pair as it is learnt."""
        return self.question(source) + self.written(target)
