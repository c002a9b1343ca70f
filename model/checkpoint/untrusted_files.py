"""Files that a stranger may have written: opened without following a link out of their folder, read within bounds.

Who fills a folder chooses what its names are. A named pipe would make the reader wait for ever, a device
would answer without end, a link would read another file with the reader's rights, and a file may change between a look
at it and the reading. So a file is looked at, opened without waiting, compared with what was looked at, and everything
else is asked of the open file. JSON is checked where the standard library takes more than RFC 8259 and RFC 7493
(I-JSON) allow: a name given twice, numbers no float can hold, half of a surrogate pair.

This is about files, which are named by those who start a program. Clients of the service never name a file.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from model.errors import CheckpointError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

# A file on disk is seldom in more than a few pieces with nothing between them.
MOST_HOLES = 1000


def open_inside(folder: Path, name: str) -> BufferedReader:
    """Open a regular file of a folder for reading, without waiting and without leaving the folder.

    The folder may itself be a link, and a file a link to another inside it, as Kubernetes mounts configuration. A link
    that leads out is refused: the maker of the folder chose its target, and it would be read with the rights of the
    process that loads it; a card that links to a private key would be shown as a card.
    Raises CheckpointError where there is no such file, or where the name is not a file.
    """
    path = folder / name
    try:
        target = os.path.realpath(path, strict=True)
        if not Path(target).is_relative_to(os.path.realpath(folder)):
            raise CheckpointError(
                f"{path} is a link out of its folder and is not followed; copy the folder with `cp -rL`, "
                "if its files are to be trusted."
            )
        seen = os.lstat(target)
        if not stat.S_ISREG(seen.st_mode):
            kind = KINDS.get(stat.S_IFMT(seen.st_mode), "something else")
            raise CheckpointError(f"{path} is {kind}, not a file; put the checkpoint's own {name} there.")
        file = open(target, "rb", opener=_open_without_waiting)  # noqa: SIM115 (the caller closes it)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"The checkpoint {folder} has no {name}; restore it, or train again.") from None
    except OSError as error:
        raise CheckpointError(
            f"{path} could not be read ({error.strerror or error}); make it a file that you may read, or restore it."
        ) from error
    if not os.path.samestat(seen, os.fstat(file.fileno())):
        file.close()
        raise changed(path)
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    """Open so that a pipe put there meanwhile does not wait and a link put there is refused, where the system can."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


def changed(path: Path) -> CheckpointError:
    """The error for a file that changed between two looks at it."""
    return CheckpointError(f"{path} changed while it was read; load the checkpoint again once nothing writes to it.")


def damaged(path: Path) -> CheckpointError:
    """The error for a file whose digest is not the one that was written with it."""
    return CheckpointError(
        f"{path} is damaged: its sha256 is not the one in config.json; restore it, or train again. Where somebody "
        "changed it on purpose, take the entry digests out of config.json."
    )


def read_text(folder: Path, name: str, most: int) -> str:
    """A text file of a folder, at most `most` bytes of UTF-8. Raises CheckpointError on anything else."""
    path = folder / name
    with open_inside(folder, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise CheckpointError(
                f"{path} is larger than any {name} Unroll writes for such a network, {size:,} bytes where {most:,} "
                "would do; restore it, or train again."
            )
        content = file.read(size + 1)
    if len(content) != size:
        raise changed(path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path} is not UTF-8 text at byte {error.start}; the file is damaged, restore it or train again."
        ) from error


def count_unwritten(file: BufferedReader) -> int:
    """Bytes of a file that were never written, which read as zeros and take no room on disk.

    A download that was cut short leaves such a file, and a stranger gets one of any size for nothing. 0 where the
    system does not say; the whole size where the file is in over a thousand pieces.
    """
    handle, missing, at = file.fileno(), 0, 0
    size = os.fstat(handle).st_size
    if not hasattr(os, "SEEK_HOLE"):
        return 0
    try:
        for _ in range(MOST_HOLES):
            hole = os.lseek(handle, at, os.SEEK_HOLE)
            if hole >= size:
                return missing
            at = _next_data(handle, hole, size)
            missing += at - hole
            if at >= size:
                return missing
        return size
    except OSError:  # a file system that cannot say
        return 0
    finally:
        file.seek(0)


def _next_data(handle: int, hole: int, size: int) -> int:
    try:
        return os.lseek(handle, hole, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # the hole reaches to the end
            return size
        raise
