"""Files that are written whole or not at all, and are on the disk before they take their name."""

import os
from contextlib import suppress
from pathlib import Path
from typing import IO, Any


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
