"""Sources as one stream of text, decoded in blocks; errors name the file and the byte."""

import codecs
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import IO

from model.errors import CorpusError
from model.text.frame import LABEL_END, LARGEST_LABEL
from model.text.tokenizer import CharacterCounts, Tokenizer
from model.text.utf8_ids import Ids
from training.data.file_formats import has_controls
from training.data.left_out import LeftOut
from training.data.sources import DAMAGED, Source

BLOCK = 1 << 20  # bytes read at a time


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """What a first reading of a corpus found.

    characters: code points after decoding, line ends as \\n, without byte-order marks.
    sha256: of that text as UTF-8, so the same text has the same sum in every encoding.
    """

    names: tuple[str, ...]
    encoding: str
    characters: int
    sha256: str


class ContentSum:
    """The SHA-256 of what sources hold, added up block by block: of their bytes and their order, not their names."""

    def __init__(self) -> None:
        self._whole, self._source = hashlib.sha256(), hashlib.sha256()

    def add(self, raw: bytes) -> None:
        """Add a source's next bytes; none are its end, so that the same bytes cut otherwise have another sum."""
        if raw:
            self._source.update(raw)
        else:
            self._whole.update(self._source.digest())
            self._source = hashlib.sha256()

    def hexdigest(self) -> str:
        """The sum of all sources that have ended."""
        return self._whole.hexdigest()


class Corpus:
    """Some sources read as one text; a line break is put between two when the first does not end in one.

    encoding: any text encoding Python knows; UTF-8 by default.
    left_out: what was passed over when the sources were looked for.
    undecodable: names of those that are not text of the encoding, with the byte where that shows, if it was looked for.
    replacing: whether bytes that are no text are read as U+FFFD; else they are an error.
    labelled: whether each item of a list, which `ending` ends, is given the name of its file and "|" before it.
    ending: what each source ends with, and is given where it does not, as the separator of items; then no line break
        is put between two.
    Memory does not grow with the corpus, except for the ids of `encode`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        encoding: str = "utf-8",
        *,
        left_out: LeftOut | None = None,
        undecodable: Mapping[str, int] | None = None,
        replacing: bool = False,
        ending: str = "",
        labelled: bool = False,
    ) -> None:
        self.sources, self.encoding, self.replacing = sources, check_encoding(encoding), replacing
        self.ending = ending
        self.labels = [label_of(source.name) for source in self.sources] if labelled else []
        self.left_out, self.undecodable = left_out or LeftOut(), undecodable or {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sources, in order."""
        return tuple(source.name for source in self.sources)

    def content_sum(self) -> str:
        """The sum of the sources' bytes, unpacked, without decoding them: several times as fast as the survey."""
        content = ContentSum()
        for source in self.sources:
            with source.open() as stream:
                for raw in _read(source, stream):
                    content.add(raw)
        return content.hexdigest()

    def blocks(self, content: ContentSum | None = None) -> Iterator[str]:
        """The text in pieces, in order. Raises CorpusError naming file and byte offset where it is not text.

        content: adds up the bytes as they are read.
        """
        end = self.ending or "\n"
        last = end
        for place, source in enumerate(self.sources):
            text = decode_blocks(source, self.encoding, content, self.replacing)
            if self.labels:
                text = with_label(text, self.labels[place], end)
            for number, block in enumerate(text):
                if number == 0 and (missing := _missing(last, end)):
                    yield missing
                    last = end
                yield block
                last = (last + block)[-len(end) :]
        if self.ending and (missing := _missing(last, end)):
            yield missing

    def survey(self) -> tuple[CorpusFacts, CharacterCounts]:
        """Read everything once: that it is text, how much, which characters, and its sum."""
        counts, sum_of_text, characters = CharacterCounts(), hashlib.sha256(), 0
        for block in self.blocks():
            counts.update(block)
            sum_of_text.update(block.encode("utf-8"))
            characters += len(block)
        return CorpusFacts(
            names=self.names, encoding=self.encoding, characters=characters, sha256=sum_of_text.hexdigest()
        ), counts

    def encode(self, tokenizer: Tokenizer) -> Ids:
        """The ids of the whole text, (n,), in the tokenizer's smallest type."""
        return tokenizer.encode_all(self.blocks())


def label_of(name: str) -> str:
    """The label of the items of a file: its name up to the first dot. Raises CorpusError where it is none."""
    label = PurePath(name).name.split(".")[0]
    if not 0 < len(label) <= LARGEST_LABEL or LABEL_END in label:
        raise CorpusError(
            f"The name of {name} is no label: it has 1 to {LARGEST_LABEL} characters before the first dot, and no "
            f"{LABEL_END}; rename the file."
        )
    return label


def with_label(blocks: Iterator[str], label: str, separator: str) -> Iterator[str]:
    """The text of a list in blocks, a label and "|" before each item that is not empty."""
    held, begun = "", False
    for block in blocks:
        items = (held + block).split(separator)
        held = next(
            separator[:have] for have in range(len(separator) - 1, -1, -1) if items[-1].endswith(separator[:have])
        )
        items[-1] = items[-1].removesuffix(held)  # which may be the beginning of a separator
        written = []
        for number, item in enumerate(items):
            if number:
                written.append(separator)
                begun = False
            if item and not begun:
                written.append(label + LABEL_END)
                begun = True
            written.append(item)
        if text := "".join(written):
            yield text
    if held:
        yield held if begun else label + LABEL_END + held


def _missing(text: str, end: str) -> str:
    """What a text lacks to end so."""
    return next(end[have:] for have in range(len(end), -1, -1) if text.endswith(end[:have]))


def decode_blocks(
    source: Source, encoding: str, content: ContentSum | None = None, replacing: bool = False
) -> Iterator[str]:
    """The text of one source in pieces: byte-order mark dropped, \\r\\n and \\r as \\n.

    Raises UndecodableError where it is no text, unless bytes are replaced then.
    """
    decoder = codecs.getincrementaldecoder(encoding)("replace" if replacing else "strict")
    line_ends = io.IncrementalNewlineDecoder(None, translate=True)
    consumed, first = 0, True
    with source.open() as stream:
        for raw in _read(source, stream):
            if content is not None:
                content.add(raw)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeError as error:
                start = error.start if isinstance(error, UnicodeDecodeError) else 0
                raise UndecodableError(source.name, encoding, consumed - waiting + start, raw) from error
            consumed += len(raw)
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            if text := line_ends.decode(text, final=not raw):
                yield text


def _read(source: Source, stream: IO[bytes]) -> Iterator[bytes]:
    """Blocks of bytes, closed by an empty one."""
    raw = b"start"
    while raw:
        try:
            raw = stream.read(BLOCK)
        except DAMAGED as error:
            raise CorpusError(f"{source.name} cannot be read to its end: {error}.") from error
        yield raw


def first_undecodable(source: Source, encoding: str) -> int | None:
    """The byte, counted from 0, at which a source is no text of an encoding; None where it is text to its end."""
    try:
        for _ in decode_blocks(source, encoding):
            pass
    except UndecodableError as error:
        return error.offset
    return None


class UndecodableError(CorpusError):
    """A source is not text of the encoding it is read in, from byte `offset` on, counted from 0.

    raw: the bytes read together with that one.
    """

    def __init__(self, name: str, encoding: str, offset: int, raw: bytes) -> None:
        self.offset = offset
        if offset == 0 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            remedy = "it begins like UTF-16; try --encoding utf-16"
        elif has_controls(raw):
            remedy = "it looks like binary data; leave it out"
        else:
            remedy = (
                "name its encoding with --encoding (latin-1, cp1252, …), or choose --on-decode-error skip, to leave "
                "such files out, or replace"
            )
        super().__init__(f"{name} is not {encoding} text at byte {offset:,} (counted from 0): {remedy}.")


def check_encoding(encoding: str) -> str:
    """The encoding's name, if Python knows it as an encoding of text."""
    try:
        "".encode(encoding)
        b"".decode(encoding)
    except (LookupError, ValueError) as error:
        raise CorpusError(f"{encoding!r} is not a text encoding; try utf-8, latin-1, cp1252, utf-16 …") from error
    return encoding
