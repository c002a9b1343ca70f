"""API keys: stored as digests, compared under a secret, and read again without a restart."""

import hashlib
import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from service.errors import SettingsError
from service.settings import Settings, listed

logger = logging.getLogger(__name__)

SHORTEST = 16  # characters of a key; a shorter one can be guessed over the network
HASHED = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
HASH = r"(sha|md|blake|ripemd)[-_]?\d\w{0,8}"
LIKE_A_DIGEST = re.compile(rf"[{{$(]?{HASH}[:=$)}}/-]|\$\w{{1,12}}\$", re.IGNORECASE)
LABEL_OF_A_DIGEST = re.compile(rf"{HASH}|[0-9a-f]{{32,}}", re.IGNORECASE)
KEY = re.compile(r"[!\"$-~][!-~]*")
DIGEST = "this looks like a digest and is none; write sha256: and the 64 hexadecimal digits of the key's SHA-256."
LABEL = re.compile(rf"[A-Za-z0-9._-]{{1,{SHORTEST - 1}}}")  # shorter than any key, so that no key is taken for one
SCHEMES = frozenset({"authorization", "basic", "bearer", "key", "token", "x-api-key"})  # of headers
BREAKS = re.compile("[\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # which some programs treat as the end of a line
SEPARATORS = re.compile(r"[,;:|\"'`]|=(?!=*$)")
MOST_BYTES = 1 << 20  # of a file of keys
MODELS = "models="
MOST_TOLD = 20  # logged lines that name unknown models
MOST_NAMED = 8  # unknown models that are named per line
LONGEST = 100  # characters of a name in the log

GIVEN = "--api-keys or UNROLL_API_KEYS"  # where the keys of the settings come from: the flag, or its variable
REMEDY = "make one with `openssl rand -hex 32`"


@dataclass(frozen=True)
class ApiKey:
    """A key as the server stores it.

    digest: its SHA-256 (32 bytes). label: its name in logs, which reveals nothing of the key. models: names of the
    models it may use; None for all. where: its file and line, or its setting.
    """

    digest: bytes
    label: str
    models: frozenset[str] | None = None
    where: str = ""


class ApiKeys:
    """The keys of the settings: those of `api_keys`, and those of the file, which `reload` reads again.

    A line of the file is a key, or `sha256:` and the digest of one in hexadecimal digits. A label, shorter than any
    key, and a space may come before it; a space, `models=` and the names of the models it may use, separated by
    commas, may follow. Empty lines and lines that begin with # are ignored. Raises SettingsError if it is not a
    regular file, cannot be read or has no key, on a line that is not a key or may be two, and if a key stands twice
    with different models.
    """

    def __init__(self, settings: Settings) -> None:
        own = settings.api_keys
        self._path = settings.api_keys_file
        self._given = [_key(text, GIVEN) for text in listed(own)] if own is not None else []
        if own is not None and not self._given:
            raise SettingsError(f"{GIVEN} holds no key; {REMEDY}, or unset it.")
        self._secret = secrets.token_bytes(32)
        self._reading = threading.Lock()
        self._keys = self._read()

    @property
    def needed(self) -> bool:
        """Whether a request needs a key at all."""
        return bool(self._keys)

    @property
    def restricted(self) -> bool:
        """Whether a key is limited to some models, so that names of models must not be shown to everybody."""
        return any(key.models is not None for key in self._keys.values())

    def holder(self, text: str) -> ApiKey | None:
        """The key of that text, if it is a valid one.

        Looked up under a secret of this process, so how long it takes tells nothing of a key nor of its digest.
        """
        return self._keys.get(self._name(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()))

    def _name(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._secret).digest()

    def reload(self) -> bool:
        """Read the file again; if that fails, the earlier keys stay valid, and the log says why.

        Returns whether it was read. Any thread may call it; a file system may keep it waiting.
        """
        with self._reading:
            try:
                self._keys = self._read()
            except SettingsError as error:
                logger.error("The keys stay as they were. %s", error)
                return False
            logger.info("There are %d keys now.", len(self._keys))
            return True

    def tell_of_unknown_models(self, knows: Callable[[str], bool], offer: str) -> None:
        """Log which lines name an unknown model: misspelt, removed, not yet there, or of another server.

        knows: whether a name is that of a model. offer: which models there are, in words. Any thread may call it.
        """
        told = 0
        for key in self._keys.values():
            unknown = sorted(name for name in key.models or () if not knows(name))
            if unknown and told == MOST_TOLD:
                logger.warning("More lines of keys name models that are not there.")
                return
            if unknown:
                told += 1
                names = _some(unknown)
                logger.warning(
                    "%s: %s names what is not served: %s; %s.%s", key.where, MODELS, names, offer, _left(key, unknown)
                )

    def _read(self) -> dict[bytes, ApiKey]:
        keys = self._given if self._path is None else [*self._given, *self._in_file(self._path)]
        found: dict[bytes, ApiKey] = {}
        for key in keys:
            before = found.setdefault(self._name(key.digest), key)
            if before.models != key.models:
                raise SettingsError(
                    f"{key.where}: this key stands in {before.where or GIVEN}, too, with other models; write it once."
                )
        return found

    def _in_file(self, path: Path) -> list[ApiKey]:
        keys = [_line(line, f"{path}, line {number}") for number, line in _lines(path)]
        if not keys:
            raise SettingsError(f"{path} holds no key; {REMEDY}, one a line.")
        return keys


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are neither empty nor comments, with their numbers; with or without a byte-order mark."""
    try:
        # Opening a named pipe would wait for a writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError(f"{path} is no regular file; name a file of keys, one a line.")
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"The keys in {path} cannot be read ({reason}); name a readable file of keys.") from error
    if len(content) > MOST_BYTES:
        raise SettingsError(f"{path} is larger than {MOST_BYTES:,} bytes; name a file of keys, one a line.")
    lines = ((number, line.strip(" \t\r")) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def _some(names: list[str]) -> str:
    """The first of some names, shortened for a log."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(repr(name[:LONGEST]) for name in names[:MOST_NAMED]) + more


def _left(key: ApiKey, unknown: list[str]) -> str:
    """A note if a key has no models left without some of its models."""
    return " The key can use no model now." if len(unknown) == len(key.models or ()) else ""


def _line(line: str, where: str) -> ApiKey:
    if BREAKS.search(line):
        raise SettingsError(f"{where}: a line break that is no newline; write one key a line, each ended by a newline.")
    words = re.split(r"[ \t]+", line)
    models = _models(words.pop(), where) if words[-1].startswith(MODELS) else None
    if not words:
        raise SettingsError(f"{where}: {MODELS} stands behind a key, and here is none; {REMEDY}.")
    *labels, text = words
    key, label = replace(_key(text, where), models=models, where=where), " ".join(labels)
    if not label:
        return key
    if LABEL_OF_A_DIGEST.fullmatch(label):  # as `sha256sum` writes a digest, or nearly as we do
        raise SettingsError(f"{where}: {DIGEST}")
    if label.lower() in SCHEMES:
        raise SettingsError(f"{where}: the name of a header or scheme stands before the key; write the key alone.")
    if not LABEL.fullmatch(label):
        raise SettingsError(
            f"{where}: a label is up to {SHORTEST - 1} letters, digits, dots, dashes or underscores, and no spaces; "
            "where it is another key, write one key a line."
        )
    return replace(key, label=label)


def _models(word: str, where: str) -> frozenset[str]:
    """The names after `models=`."""
    names = frozenset(listed(word.removeprefix(MODELS)))
    if not names or any(character in name for name in names for character in "*?"):
        raise SettingsError(f"{where}: {MODELS} names no model; write whole names between commas, without spaces.")
    return names


def _key(text: str, where: str) -> ApiKey:
    """The key of a text. A damaged digest is refused: as a plain key it would be readable in the file."""
    hashed = HASHED.fullmatch(text)
    if not hashed and LIKE_A_DIGEST.match(text):
        raise SettingsError(f"{where}: {DIGEST}")
    if not KEY.fullmatch(text):
        raise SettingsError(f"{where}: a key is of ASCII letters, digits and signs, and begins with no #; {REMEDY}.")
    if len(text) < SHORTEST:
        raise SettingsError(f"{where}: a key is shorter than {SHORTEST} characters; {REMEDY}.")
    if not hashed and SEPARATORS.search(text):
        raise SettingsError(
            f"{where}: a key has none of , ; : | or quotes, and = only at its end; write one key a line, or between "
            "commas, and a space after a label; or write sha256: and the key's digest."
        )
    digest = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(text.encode()).digest()
    return ApiKey(digest, "key-" + hashlib.sha256(digest).hexdigest()[:8])
