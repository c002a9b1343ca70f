"""File formats, known by how the bytes begin: text, packed text, an archive, or one that is refused by its name."""

import codecs
import tarfile
from typing import NamedTuple

SNIFF = 1 << 13  # bytes at the beginning of a file by which it is judged
MOST_CONTROLS = 0.02  # of the bytes of a text in any encoding; of packed data and machine code it is a tenth
CONTROLS = (
    bytes(set(range(32)) - set(b"\b\t\n\f\r\x0e\x0f\x1b")) + b"\x7f"
)  # but shifts of ISO 2022 and colours of logs

PACKERS = {b"\x1f\x8b\x08": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}  # the standard library unpacks these

CONVERT = "save or convert it as plain text, and name that"
UNPACK = "unpack it, and name what it holds"

# Beginnings of what is no text, each with what it is and what to do; those that could begin a text need a NUL as well.
FOREIGN = [
    (b"%PDF-", "a PDF document", "extract its text, for instance with pdftotext"),
    (b"(\xb5/\xfd", "packed by zstd", "unpack it: zstd -dc FILE | unroll train -"),
    (b"\x04\x22M\x18", "packed by lz4", "unpack it: lz4 -dc FILE | unroll train -"),
    (b"\x1f\x9d", "packed by compress", "unpack it: zcat FILE | unroll train -"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", CONVERT),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", ""),
    (b"\xff\xd8\xff", "a JPEG picture", ""),
    (b"SQLite format 3\0", "an SQLite database", "write what it holds to a text file"),
    (b"PAR1", "a Parquet table", "write what it holds to a text file"),
    (b"ARROW1", "an Arrow table", "write what it holds to a text file"),
    (b"\x93NUMPY", "a NumPy array", ""),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", ""),
    (b"\x7fELF", "a compiled program", ""),
]


class Foreign(NamedTuple):
    """Bytes that are not text of the encoding they are to be read in.

    what: in words, as "a PDF document". remedy: what makes text of it. kind: a word to count such files by.
    """

    what: str
    remedy: str
    kind: str = "binary"


def is_wide(encoding: str) -> bool:
    """Whether text of this encoding has NUL bytes."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def packer(head: bytes) -> str | None:
    """What packed a stream that begins like this: gzip, bz2 or xz; None where none of them did."""
    if head.startswith(b"BZh") and head[4:10] not in (
        b"1AY&SY",
        b"\x17rE8P\x90",
    ):  # a block, or the end of an empty one
        return None
    return next((name for magic, name in PACKERS.items() if head.startswith(magic)), None)


def archiver(head: bytes) -> str | None:
    """The kind of archive that begins like this: zip or tar; None where it is neither."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:  # the sum of its bytes is not what it says
        return None
    return "tar"


def foreign(head: bytes, encoding: str) -> Foreign | None:
    """What bytes are that begin like this and are no text; None where they may well be text.

    A text in another encoding of one byte a character is not told apart here: reading it says where it fails.
    """
    for magic, what, remedy in FOREIGN:
        if head.startswith(magic):
            return Foreign(what, remedy or "name files that hold text")
    if is_wide(encoding):
        return None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and _decodes(head, "utf-16"):
        return Foreign("UTF-16 text", "try --encoding utf-16", "in UTF-16")
    if (nul := head.find(b"\0")) >= 0:
        if name := _unmarked(head):
            return Foreign(f"{name.upper()} text without its mark", f"try --encoding {name}", "in UTF-16")
        return Foreign(
            f"binary data (its byte {nul:,} is NUL)",
            "name files that hold text; where this one does, remove its NULs, for instance with tr -d '\\0'",
        )
    if has_controls(head) and not _decodes(head, encoding):
        return Foreign("binary data", "name files that hold text")
    return None


def has_controls(block: bytes) -> bool:
    """Whether bytes have more control characters among them than any text has."""
    return len(block) - len(block.translate(None, CONTROLS)) > MOST_CONTROLS * len(block)


def _decodes(head: bytes, encoding: str) -> bool:
    """Whether bytes, which may be cut off anywhere, are text of an encoding."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeError:
        return False
    return True


def _unmarked(head: bytes) -> str | None:
    """The encoding of text of two bytes a character that does not say so: most of the second, or first, are NUL.

    None where the NULs lie otherwise, as in binary data.
    """
    high, low = head[0::2], head[1::2]
    for name, mostly, hardly in (("utf-16-le", low, high), ("utf-16-be", high, low)):
        if mostly.count(0) > len(mostly) * 0.6 and not hardly.count(0) and _decodes(head, name):
            return name
    return None
