"""The texts in a zip or tar archive, each a source, read without unpacking the archive to disk."""

import io
import os
import tarfile
import weakref
import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO, cast

from model.errors import CorpusError
from training.data.folders import MADE_BY_TOOLS, why_not
from training.data.left_out import LeftOut
from training.data.sources import DAMAGED, Source, Unpacked, unpacked

MOST_MEMBERS = 500_000  # of an archive: each takes a kilobyte of memory while it is read

DOCUMENTS = {"[Content_Types].xml": "an Office document", "mimetype": "an OpenDocument or EPUB file"}
"""Zip archives that are one document, by a member only they have: their XML is not the text a person reads."""

UNREADABLE = (*DAMAGED, zipfile.BadZipFile, tarfile.TarError, NotImplementedError, RuntimeError)
"""What opening or reading a damaged archive raises, or one packed in a way the standard library does not know."""


class Member(Source):
    """A file in an archive.

    begin: gives its bytes from the beginning. archive: is open as long as one of its members is there.
    """

    def __init__(self, name: str, begin: Callable[[], IO[bytes]], archive: "_Held") -> None:
        super().__init__(name)
        self._begin, self._archive = begin, archive

    def open(self) -> IO[bytes]:
        """Its bytes, unpacked if it is itself packed."""
        try:
            return unpacked(self.name, self._begin())
        except UNREADABLE as error:
            raise CorpusError(f"{self.name} cannot be read: {error}.") from error


class _Held:
    """Closes a file when nothing needs it any more."""

    def __init__(self, file: IO[bytes]) -> None:
        weakref.finalize(self, file.close)


def archive_members(name: str, file: IO[bytes], kind: str, encoding: str, left_out: LeftOut) -> list[Source]:
    """The texts of an archive, sorted as if it were unpacked into a folder; the rest is counted in `left_out`.

    file: of the archive, with a descriptor, open for as long as its members are read. kind: "zip" or "tar".
    Raises CorpusError where it is damaged, holds more than MOST_MEMBERS, or is a document in itself.
    """
    held = _Held(file)
    file.seek(0)
    found: dict[str, Callable[[], IO[bytes]]] = {}  # of two members of one name the later counts, as in unpacking
    try:
        for number, (member, begin) in enumerate((_zip if kind == "zip" else _tar)(name, file, left_out)):
            if number == MOST_MEMBERS:
                raise CorpusError(f"{name} holds more than {MOST_MEMBERS:,} files; unpack it, and name the folder.")
            found[str(PurePosixPath(member))] = begin
    except UNREADABLE as error:
        raise CorpusError(f"{name} cannot be read as a {kind} archive: {error}.") from error
    if kind == "zip" and (document := next((DOCUMENTS[one] for one in found if one in DOCUMENTS), None)):
        raise CorpusError(f"{name} is {document}, not text; save or convert it as plain text, and name that.")
    sources: list[Source] = []
    for member in sorted(found, key=lambda one: PurePosixPath(one).parts):
        source = Member(f"{name}/{member}", found[member], held)
        if (reason := _why_not(source, member, encoding)) is None:
            sources.append(source)
        else:
            left_out.add(reason, source.name)
    return sources


def _why_not(source: Member, member: str, encoding: str) -> str | None:
    """The kind by which a member is passed over; None where it may be text."""
    parts = PurePosixPath(member).parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return "hidden"
    if made := next((MADE_BY_TOOLS[part] for part in parts[:-1] if part in MADE_BY_TOOLS), None):
        return made
    return why_not(source, encoding)


def _zip(name: str, file: IO[bytes], left_out: LeftOut) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    archive = zipfile.ZipFile(file)
    for info in archive.infolist():
        if info.is_dir():
            continue
        if info.flag_bits & 1:
            left_out.add("encrypted", f"{name}/{info.filename}")
            continue

        def begin(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return cast(IO[bytes], Unpacked(f"{name}/{info.filename}", archive.open(info), lambda: info.compress_size))

        yield info.filename, begin


def _tar(name: str, file: IO[bytes], left_out: LeftOut) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    descriptor = file.fileno()
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                left_out.add("special", f"{name}/{info.name}")
                continue

            def begin(start: int = info.offset_data, size: int = info.size) -> IO[bytes]:
                return cast(IO[bytes], io.BufferedReader(_Stretch(file, descriptor, start, size)))

            yield info.name, begin


class _Stretch(io.RawIOBase):
    """Some bytes of a file, which is kept open, without moving where others read in it."""

    def __init__(self, file: IO[bytes], descriptor: int, start: int, size: int) -> None:
        self._file, self._descriptor, self._start, self._size, self._at = file, descriptor, start, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """To a place counted from the beginning, from here or from the end."""
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        """Where it stands."""
        return self._at

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """As many bytes as fit, fewer at the end. Raises EOFError where the archive ends before them."""
        wanted = max(0, min(len(buffer), self._size - self._at))
        block = os.pread(self._descriptor, wanted, self._start + self._at)
        if len(block) < wanted and not block:
            raise EOFError("the archive is cut off")
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)
