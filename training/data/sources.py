"""Where a corpus comes from: files, folders, archives and pipes, found and told apart from binary data."""

import codecs
import gzip
import io
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from model.errors import CorpusError

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


def check_encoding(encoding: str) -> str:
    """The encoding's name, if Python knows it as an encoding of text."""
    try:
        "".encode(encoding)
        b"".decode(encoding)
    except (LookupError, ValueError) as error:
        raise CorpusError(f"{encoding!r} is not a text encoding; try utf-8, latin-1, cp1252, utf-16 …") from error
    return encoding
