"""Files that are written whole or not at all, and are on the disk before they take their name."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a disk that is full, and of limits on what one user or one file may take."""


def remedy(error: OSError) -> str:
    """What a user can do about a file that could not be written, in words."""
    return "free some space" if error.errno in NO_ROOM else "see that you may write there"


def replace_file(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it.

    A crash in between leaves the file that was there, whole. Raises OSError when the disk refuses; the file that was
    there is then still there, and the temporary one is gone.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        write_synchronised(temporary, content)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    synchronise_folder(path.parent)


def write_synchronised(path: Path, content: bytes) -> None:
    """Write a file that is on the disk when this returns. Raises OSError when the disk refuses."""
    with path.open("wb") as file:
        file.write(content)
        synchronise(file)


def synchronise(file: IO[Any]) -> None:
    """Put what was written to a file on the disk."""
    file.flush()
    os.fsync(file.fileno())


def synchronise_folder(folder: Path) -> None:
    """Put a folder's names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
