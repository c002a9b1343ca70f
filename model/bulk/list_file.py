"""A list that is being written to a file, with a journal beside it from which `--resume` goes on."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from model.bulk.formats import Format, header, read_lines
from model.errors import ParameterError
from model.files import remedy, replace_file, synchronise
from model.strict_json import parse_json

SAVED_EVERY = 2.0  # seconds between two entries of the journal


class ListFile:
    """Writes items to a file. Its journal says how much of it is valid; it is gone once the list is complete.

    settings: all that the items depend on, as JSON values; a list is resumed with the same.
    counts: what the journal counted when the list was interrupted, None for a new list.
    Raises ParameterError where a file is there that is not to be resumed, or was begun with other settings, and all
    methods raise it where the disk refuses: what the journal counts is kept then.
    """

    def __init__(self, path: Path, form: Format, settings: dict[str, Any], resume: bool) -> None:
        self._path, self._format, self._settings = path, form, settings
        self._journal = _journal_of(path)
        self._saved = 0.0
        self.counts: dict[str, Any] | None = None
        there = path.exists()
        if there and not resume:
            begun = _journal_of(path).exists()
            other = "go on with it with --resume" if begun else "remove it"
            message = f"{path} is there already; choose another --out, or {other}."
            raise ParameterError("out", message)
        if there:
            self.counts, valid = self._read_journal()
            self._file: IO[bytes] = path.open("r+b")
            self._file.truncate(valid)
            self._file.seek(valid)
        else:
            self._file = path.open("wb")
            try:
                self._file.write(header(form))
                self.save({})
            except ParameterError:
                with suppress(OSError):
                    self._file.close()
                path.unlink()
                raise

    def lines(self) -> Iterator[str]:
        """The items of a list that is resumed."""
        with self._path.open("rb") as file:
            yield from read_lines(file, self._format)

    def write(self, line: bytes) -> None:
        """Add an item."""
        with self._told():
            self._file.write(line)

    def save_now_and_then(self, counts: dict[str, int]) -> None:
        """Put on the disk what was written, if that has not been done for a while."""
        if time.monotonic() - self._saved >= SAVED_EVERY:
            self.save(counts)

    def save(self, counts: dict[str, int]) -> None:
        """Put on the disk what was written, and say so in the journal."""
        with self._told():
            synchronise(self._file)
            entry = {"settings": self._settings, "bytes": self._file.tell(), "counts": counts}
            replace_file(self._journal, json.dumps(entry, ensure_ascii=False).encode())
        self._saved = time.monotonic()

    def close(self, complete: bool) -> None:
        """Close the file; a complete one needs no journal."""
        with self._told():
            try:
                synchronise(self._file)
            finally:
                self._file.close()
            if complete:
                self._journal.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """For a `with` block: an error of the disk as a sentence."""
        try:
            yield
        except OSError as error:
            begun = ", then go on with the same command and --resume" if self._journal.exists() else ""
            raise ParameterError(
                "out", f"{self._path} could not be written ({error.strerror}); {remedy(error)}{begun}."
            ) from error

    def _read_journal(self) -> tuple[dict[str, Any] | None, int]:
        """The counts and the length of the valid part."""
        try:
            entry = parse_json(self._journal.read_text("utf-8"))
            begun, valid, counts = entry["settings"], entry["bytes"], entry["counts"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"{self._path} is complete, or is no list that was begun; choose another --out."
            raise ParameterError("resume", message) from error
        other = sorted(name for name in self._settings if begun.get(name) != self._settings[name])
        if other:
            raise ParameterError("resume", f"{self._path} was begun with another {', '.join(other)}; give the same.")
        if os.path.getsize(self._path) < valid:
            raise ParameterError("resume", f"{self._path} is shorter than it was; begin a new list.")
        return counts or None, valid


def is_complete(path: Path, form: Format, count: int) -> bool:
    """Whether a file is a list of so many items and has no journal, as a list that was written to its end."""
    if not path.is_file() or _journal_of(path).exists():
        return False
    try:
        with path.open("rb") as file:
            return sum(1 for _ in read_lines(file, form)) == count
    except (ValueError, KeyError, TypeError, IndexError):  # it is no list of ours
        return False


def begun_seed(path: Path | None) -> int | None:
    """The seed of the list that was begun in a file, where there is one."""
    if path is None:
        return None
    try:
        seed = parse_json(_journal_of(path).read_text("utf-8"))["settings"]["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return seed if type(seed) is int else None


def _journal_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.unroll")
