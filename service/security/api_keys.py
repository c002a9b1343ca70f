"""Who may use the server: keys, kept as digests, compared in constant time, and read again without a restart."""

import hashlib
import hmac
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from service.errors import SettingsError
from service.settings import Settings, listed

logger = logging.getLogger(__name__)

SHORTEST = 16  # characters of a key; anything shorter can be guessed over the network
HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
MOST_BYTES = 1 << 20  # of a file of keys

REMEDY = "make one with `openssl rand -hex 32`"


@dataclass(frozen=True)
class ApiKey:
    """A key as far as the server remembers it.

    digest: its SHA-256 (32 bytes). label: what it is called in logs; says nothing about it.
    """

    digest: bytes
    label: str


class ApiKeys:
    """The keys of the settings: those of `api_keys`, and those of the file, which `reload` reads again.

    A line of the file is a key, or `sha256:` and the digest of one in hexadecimal digits; a label and a space may
    stand before it. Empty lines and those that begin with # say nothing.
    Raises SettingsError on a file that cannot be read or holds no key, and on a key that is too short.
    """

    def __init__(self, settings: Settings) -> None:
        own = settings.api_keys
        self._path = settings.api_keys_file
        self._given = [_key(text, "--api-keys") for text in listed(own)] if own is not None else []
        if own is not None and not self._given:
            raise SettingsError(f"api_keys holds no key; {REMEDY}, or unset it.")
        self._keys = self._read()

    @property
    def needed(self) -> bool:
        """Whether a request needs a key at all."""
        return bool(self._keys)

    def holder(self, text: str) -> ApiKey | None:
        """The key that is meant, if it is one of ours; takes as long for every key that is not."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def reload(self) -> None:
        """Read the file again; where that fails, the keys of before go on to count, and the log says why."""
        try:
            self._keys = self._read()
        except SettingsError as error:
            logger.error("The keys stay as they were. %s", error)
        else:
            logger.info("There are %d keys now.", len(self._keys))

    def _read(self) -> list[ApiKey]:
        if self._path is None:
            return self._given
        keys = [_line(line, f"{self._path}, line {number}") for number, line in _lines(self._path)]
        if not keys:
            raise SettingsError(f"{self._path} holds no key; {REMEDY}, one a line.")
        return [*self._given, *keys]


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"The keys in {path} cannot be read ({reason}); name a readable file of keys.") from error
    if len(text) > MOST_BYTES:
        raise SettingsError(f"{path} is larger than {MOST_BYTES:,} bytes; name a file of keys, one a line.")
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def _line(line: str, where: str) -> ApiKey:
    label, _, text = line.rpartition(" ")
    if label and not LABEL.fullmatch(label.strip()):
        raise SettingsError(
            f"{where}: a label is up to 64 letters, digits, dots, dashes or underscores, and no spaces."
        )
    return _key(text, where, label.strip())


def _key(text: str, where: str, label: str = "") -> ApiKey:
    hashed = HASHED.fullmatch(text)
    if not hashed and len(text) < SHORTEST:
        raise SettingsError(f"{where}: a key is shorter than {SHORTEST} characters; {REMEDY}.")
    digest = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(text.encode()).digest()
    return ApiKey(digest, label or "key-" + hashlib.sha256(digest).hexdigest()[:8])
