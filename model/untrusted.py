"""Files that a stranger may have written: opened without following a link out of their folder, read within bounds.

Whoever fills a folder chooses what its names stand for. A named pipe would make the reader wait for ever, a device
would answer without end, a link would read another file with the reader's rights, and a file may change between a look
at it and the reading. So a file is looked at, opened without waiting, compared with what was looked at, and everything
else is asked of the open file. JSON is checked where the standard library takes more than RFC 8259 and RFC 7493
(I-JSON) allow: a name given twice, numbers no float can hold, half of a surrogate pair.

This is about files, which whoever starts a program names. What a client sends is no part of it: no client names a file.
"""

import errno
import json
import math
import os
import re
import stat
from collections import Counter
from io import BufferedReader
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from model.errors import CheckpointError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

# A record of ours nests six tables deep, holds a few dozen, and a list for each range of ids that training never saw,
# of which a configuration of the largest size has room for fewer. The bounds keep a file of brackets from becoming
# fifty times its size in memory, and whatever reads the values later from running out of stack.
DEEPEST = 32
MOST_TABLES = 1 << 12
MOST_LISTS = 1 << 15

# Any whole number of up to 308 digits is a float, too, so that no arithmetic on one can fail.
LONG_NUMBER = re.compile(r"(?<!\d)\d{309}")
HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # as JSON may spell it; a whole pair begins like this as well

# A file on disk is seldom in more than a few pieces with nothing between them.
MOST_HOLES = 1000


def open_inside(folder: Path, name: str) -> BufferedReader:
    """Open a regular file of a folder for reading, without waiting and without leaving the folder.

    The folder may itself be a link, and a file a link to another inside it, as Kubernetes mounts configuration. A link
    that leads out is refused: its target is the choice of whoever made the folder, read with the rights of whoever
    loads it, and a card that is a link to a private key would be shown as a card.
    Raises CheckpointError where there is no such file, or something else under its name.
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
    """Flags that some systems lack: a pipe put there meanwhile is opened at once, a link put there not at all."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


def changed(path: Path) -> CheckpointError:
    """What to say of a file that is not what it was a moment ago."""
    return CheckpointError(f"{path} changed while it was read; load the checkpoint again once nothing writes to it.")


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


def parse_json(text: str) -> Any:
    """The value of a JSON text that means the same to every reader. Raises ValueError with the reason on any other."""
    if text.count("{") > MOST_TABLES:
        raise ValueError(f"it has more than {MOST_TABLES:,} tables")
    if text.count("[") > MOST_LISTS:
        raise ValueError(f"it has more than {MOST_LISTS:,} lists")
    if LONG_NUMBER.search(text):
        raise ValueError("it has a number of more than 308 digits")
    try:
        value = json.loads(text, object_pairs_hook=_table, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError(f"it nests more than {DEEPEST} deep") from None
    _check_depth(value)
    if HALF_OF_A_PAIR.search(text):
        _check_characters(value)
    return value


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"it has {brief(names.most_common(1)[0][0])} twice")
    return table


def _finite(written: str) -> float:
    value = float(written)
    if not math.isfinite(value):
        raise ValueError(f"it has {brief(written)}, which is no finite number")
    return value


def _inside(values: list[Any]) -> list[Any]:
    """What stands directly in some tables and lists."""
    return [part for value in values for part in (value.values() if isinstance(value, dict) else value)]


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [part for part in level if isinstance(part, (dict, list))]
        if not level:
            return
        level = _inside(level)
    raise ValueError(f"it nests more than {DEEPEST} deep")


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it has half of a surrogate pair") from None


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
