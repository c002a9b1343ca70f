"""Sources of a corpus, streams of bytes that can be read again: files, pipes, parts of archives, texts in memory."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from model.errors import CorpusError
from model.files import NO_ROOM
from training.data.file_formats import SNIFF, packer

DAMAGED = (EOFError, zlib.error, lzma.LZMAError, OSError)
"""What reading a damaged file raises."""

DEEPEST = 3  # times that a stream is unpacked, as a .gz in a .gz

# A text gets ten times smaller when it is packed, a log fifty times. What is far beyond that, and large, is a trap or
# a file of nothing but zeros.
UNASKED, LARGEST_RATIO = 1 << 30, 200

UNPACKERS: dict[str, Callable[[IO[bytes]], IO[bytes]]] = {
    "gzip": lambda packed: cast(IO[bytes], gzip.GzipFile(fileobj=packed)),
    "bz2": lambda packed: cast(IO[bytes], bz2.BZ2File(packed)),
    "xz": lambda packed: cast(IO[bytes], lzma.LZMAFile(packed)),  # noqa: SIM115 - who unpacks closes it
}


class Source:
    """One stream of bytes that can be read more than once."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self) -> IO[bytes]:
        """The bytes from the beginning, unpacked. Raises CorpusError where they cannot be read."""
        raise CorpusError(f"{self.name} cannot be opened.")

    def head(self) -> bytes:
        """The first bytes, by which they are judged. Raises CorpusError where they cannot be read."""
        with self.open() as stream:
            return read_head(self.name, stream)


class FileSource(Source):
    """A file, unpacked on the way if it holds what gzip, bzip2 or xz made, under any name."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def open(self) -> IO[bytes]:
        """The bytes of the file, or of what it holds packed."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise CorpusError(f"{self.path} cannot be read: {error.strerror}.") from error
        return unpacked(self.name, file)


class PipeSource(Source):
    """Standard input or another pipe, kept in a temporary file because it is read twice."""

    def __init__(self, name: str, pipe: IO[bytes]) -> None:
        super().__init__(name)
        self.kept = kept(pipe)
        weakref.finalize(self, self.kept.close)

    def open(self) -> IO[bytes]:
        """What was piped in, from the beginning."""
        self.kept.seek(0)
        return unpacked(self.name, os.fdopen(os.dup(self.kept.fileno()), "rb"))


class TextSource(Source):
    """A text already in memory."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name)
        self.content = text.encode("utf-8")

    def open(self) -> IO[bytes]:
        """The text as UTF-8."""
        return io.BytesIO(self.content)


class Unpacked(io.RawIOBase):
    """A stream unpacked while it is read. Raises CorpusError where it holds far more than any packed text does.

    taken: how many packed bytes were read so far.
    """

    def __init__(self, name: str, stream: IO[bytes], taken: Callable[[], int], packed: IO[bytes] | None = None) -> None:
        self._name, self._stream, self._taken, self._packed, self._given = name, stream, taken, packed, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """`size` bytes, fewer only at the end."""
        block = self._stream.read(size)
        self._given += len(block)
        if self._given > UNASKED and self._given > LARGEST_RATIO * max(1, self._taken()):
            raise CorpusError(
                f"{self._name} unpacks to more than {LARGEST_RATIO} times its size, as no text does; if it is one, "
                "unpack it yourself and name that."
            )
        return block

    def seek(self, offset: int, whence: int = 0) -> int:
        """Back to the beginning, or to another place."""
        self._given = 0
        return self._stream.seek(offset, whence)

    def close(self) -> None:
        """Close both streams."""
        if not self.closed:
            self._stream.close()
            if self._packed is not None:
                self._packed.close()
        super().close()


def unpacked(name: str, stream: IO[bytes]) -> IO[bytes]:
    """What a stream that can be rewound holds, unpacked if it was packed, once or a few times."""
    for _ in range(DEEPEST):
        how = packer(read_head(name, stream))
        if how is None:
            break
        packed = stream
        stream = cast(IO[bytes], Unpacked(name, UNPACKERS[how](packed), packed.tell, packed))
    return stream


def read_head(name: str, stream: IO[bytes]) -> bytes:
    """The first bytes of a stream, which is then at its beginning again."""
    try:
        head = stream.read(SNIFF)
        stream.seek(0)
    except DAMAGED as error:
        stream.close()
        raise CorpusError(f"{name} cannot be read to its end: {error}.") from error
    return head


def kept(stream: IO[bytes]) -> IO[bytes]:
    """A temporary file with all a stream gives."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as what reads it
    try:
        shutil.copyfileobj(stream, file, 1 << 20)
        file.flush()
    except BaseException as error:
        with suppress(OSError):  # closing writes what is left
            file.close()
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise no_temporary_room(error) from error
        raise
    return cast(IO[bytes], file)


def no_temporary_room(error: OSError) -> CorpusError:
    """Where the disk of temporary files is full."""
    return CorpusError(
        f"A temporary copy has no room in {tempfile.gettempdir()} ({error.strerror}); free some space, or set TMPDIR "
        "to a folder with more."
    )


def reference_prose() -> Source:
    """The language reference every CPython carries: English prose of some 700,000 characters, no download."""
    from pydoc_data.topics import topics

    return TextSource("pydoc_data.topics", "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n")
