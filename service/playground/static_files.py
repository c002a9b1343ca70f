"""The files of the page: read and compressed once at the start, at an address that changes with what is in them."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"
PREFIX = "/page/"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HERE = b"{{here}}"  # in the index: where the other files are


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file, as it is and compressed by gzip."""

    kind: str
    plain: bytes
    packed: bytes

    @classmethod
    def of(cls, name: str, content: bytes) -> "StaticFile":
        """The file of that name; the same content is compressed to the same bytes."""
        return cls(KINDS[Path(name).suffix], content, gzip.compress(content, 9, mtime=0))


@cache
def contents() -> dict[str, bytes]:
    """What each file of the page has, by its name, in order."""
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS}


@cache
def version() -> str:
    """A name for what the files have in them; it changes when any of them does."""
    digest = hashlib.sha256()
    for name, content in contents().items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


@cache
def files() -> dict[str, StaticFile]:
    """The files beside the index by their paths, which never have another content."""
    return {
        f"{PREFIX}{version()}/{name}": StaticFile.of(name, content)
        for name, content in contents().items()
        if name != INDEX
    }


@cache
def index(root: str) -> StaticFile:
    """The page itself. root: the prefix that a proxy has before the routes."""
    return StaticFile.of(INDEX, contents()[INDEX].replace(HERE, f"{root}{PREFIX}{version()}".encode()))
