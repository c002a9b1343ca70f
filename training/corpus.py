"""Files, folders, archives and pipes as one stream of text: decoded in blocks, errors named by file and byte."""

import codecs
import gzip
import hashlib
import io
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from model.errors import CorpusError
from model.tokenizer import CharacterCounts, Ids, Tokenizer

BLOCK = 1 << 20  # bytes read at a time
SNIFF = 1 << 13  # bytes in which a NUL marks a file found in a folder as not text


class Source:
    """One stream of bytes that can be read more than once."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self) -> IO[bytes]:
        """The bytes from the beginning."""
        raise CorpusError(f"{self.name} cannot be opened.")


class FileSource(Source):
    """A file, unpacked on the way if its name ends in .gz."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def open(self) -> IO[bytes]:
        """The bytes of the file, or of what it holds packed."""
        try:
            packed = self.path.suffix == ".gz"
            return cast(IO[bytes], gzip.open(self.path)) if packed else self.path.open("rb")
        except OSError as error:
            raise CorpusError(f"{self.path} cannot be read: {error.strerror}.") from error


class PipeSource(Source):
    """Standard input or another pipe, kept in a temporary file because it is read twice."""

    def __init__(self, name: str, pipe: IO[bytes]) -> None:
        super().__init__(name)
        self.kept = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the source
        weakref.finalize(self, self.kept.close)
        shutil.copyfileobj(pipe, self.kept)

    def open(self) -> IO[bytes]:
        """What was piped in, from the beginning."""
        self.kept.seek(0)
        return os.fdopen(os.dup(self.kept.fileno()), "rb")


class TextSource(Source):
    """A text already in memory."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name)
        self.content = text.encode("utf-8")

    def open(self) -> IO[bytes]:
        """The text as UTF-8."""
        return io.BytesIO(self.content)


def reference_prose() -> Source:
    """The language reference every CPython carries: English prose of some 700,000 characters, no download."""
    from pydoc_data.topics import topics

    return TextSource("pydoc_data.topics", "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n")


def find_sources(names: Sequence[str], encoding: str) -> list[Source]:
    """The sources named on a command line: files, folders (every text file below, sorted), "-" for standard input.

    In a folder, hidden files are passed over, and so are files with a NUL byte near their beginning unless the
    encoding itself has them. Without names: the reference prose.
    Raises CorpusError for a name that is not there and a folder without text.
    """
    check_encoding(encoding)
    sources: list[Source] = []
    for name in names:
        try:
            sources += _sources_at(name, encoding)
        except OSError as error:
            raise CorpusError(f"{name} cannot be read: {error.strerror or error}.") from error
    return sources or [reference_prose()]


def _sources_at(name: str, encoding: str) -> Sequence[Source]:
    path = Path(name)
    if name == "-":
        return [PipeSource("standard input", sys.stdin.buffer)]
    if path.is_dir():
        found = [FileSource(file) for file in sorted(path.rglob("*")) if _is_text(file, path, encoding)]
        if not found:
            raise CorpusError(f"The folder {name} holds no text file; name a folder or file that does.")
        return found
    if path.is_file():
        return [FileSource(path)]
    if path.exists():  # a named pipe, or a shell's <(command)
        with path.open("rb") as pipe:
            return [PipeSource(name, pipe)]
    raise CorpusError(f"There is no file or folder {name}; check the path.")


def _is_text(path: Path, folder: Path, encoding: str) -> bool:
    if not path.is_file() or any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return True
    try:
        with FileSource(path).open() as file:
            return b"\0" not in file.read(SNIFF)
    except (OSError, EOFError, zlib.error):
        return True  # reading it for training says what is wrong, by name


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
    Memory does not grow with the corpus, except for the ids of `encode`.
    """

    def __init__(self, sources: Sequence[Source], encoding: str = "utf-8") -> None:
        self.sources, self.encoding = sources, check_encoding(encoding)

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
        last = "\n"
        for source in self.sources:
            for number, block in enumerate(decode_blocks(source, self.encoding, content)):
                if number == 0 and last != "\n":
                    yield "\n"
                yield block
                last = block[-1]

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


def check_encoding(encoding: str) -> str:
    """The encoding's name, if Python knows it as an encoding of text."""
    try:
        "".encode(encoding)
        b"".decode(encoding)
    except (LookupError, ValueError) as error:
        raise CorpusError(f"{encoding!r} is not a text encoding; try utf-8, latin-1, cp1252, utf-16 …") from error
    return encoding


def decode_blocks(source: Source, encoding: str, content: ContentSum | None = None) -> Iterator[str]:
    """The text of one source in pieces: byte-order mark dropped, \\r\\n and \\r as \\n."""
    decoder = codecs.getincrementaldecoder(encoding)()
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
                raise CorpusError(_not_text(source.name, encoding, consumed - waiting + start, raw)) from error
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
        except (EOFError, zlib.error, OSError) as error:
            raise CorpusError(f"{source.name} cannot be read to its end: {error}.") from error
        yield raw


def _not_text(name: str, encoding: str, offset: int, raw: bytes) -> str:
    if offset == 0 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        remedy = "it begins like UTF-16; try --encoding utf-16"
    else:
        remedy = "name its encoding with --encoding (latin-1, cp1252, …), or repair the file"
    return f"{name} is not {encoding} text at byte {offset:,} (counted from 0): {remedy}."
