"""States as signed tokens: text that a client keeps and sends back, to this server or to another with the same secret.

A token is base64url without padding of: a byte for the version of this layout, when it expires (seconds since 1970, 8
bytes, big-endian), the model's digest (32 bytes), the arithmetic it was computed in and the holder it was made for (8
bytes of a digest each), the state (`model.decoding.state`), and the HMAC-SHA-256 of all that (32 bytes).
"""

import base64
import binascii
import hashlib
import hmac
import logging
import re
import secrets
import struct
import time
from collections.abc import Callable, Sequence

from model.decoding.state import RowState, most_bytes
from model.errors import ParameterError
from service.errors import SettingsError, StateOfAnother, VersionGone
from service.inference.served_model import ServedModel
from service.settings import Settings, listed

logger = logging.getLogger(__name__)

VERSION = 1
HEAD = struct.Struct(">BQ32s8s8s")
MAC_BYTES = 32
LEAST_SECRET = 16  # characters
TEXT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
FORGED = "The state is not one of this server's, or is damaged; send it as it came, or begin with the text again."


def secrets_of(settings: Settings) -> list[bytes]:
    """The secrets of the settings, the first of which signs; none where none is set.

    Raises SettingsError on a file that cannot be read or holds no secret, and on a secret that can be guessed.
    """
    given = [*listed(settings.state_secret or "")]
    if (settings.state_secret or "").strip() and not given:
        raise SettingsError("state_secret holds no secret of states; make one with: openssl rand -hex 32, or unset it.")
    if (path := settings.state_secret_file) is not None:
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise SettingsError(f"The file of state_secret_file cannot be read: {error}.") from None
        if not any(line.strip() for line in lines):
            raise SettingsError(f"{path} holds no secret of states; make one with: openssl rand -hex 32 > {path}")
        given += lines
    found = [one.strip().encode() for one in given if one.strip()]
    if any(len(one) < LEAST_SECRET for one in found):
        raise SettingsError(
            f"A secret of state_secret is shorter than {LEAST_SECRET} characters; make one with: openssl rand -hex 32"
        )
    return found


class StateTokens:
    """Makes tokens of states and states of tokens.

    keys: secrets; the first signs, all are believed. seconds: for how long a token is good. clock: seconds since 1970.
    passing: takes their place where there are none; None makes a random one.
    """

    def __init__(
        self,
        keys: Sequence[bytes] = (),
        seconds: float = 3600,
        clock: Callable[[], float] = time.time,
        passing: bytes | None = None,
    ) -> None:
        self._keys = [*keys] or [passing or secrets.token_bytes(32)]
        self._passing = not keys  # and not yet said in the log
        self._seconds = seconds
        self._clock = clock

    def sign(self, state: RowState, model: ServedModel, holder: bytes) -> str:
        """The token of a state. holder: of the key that may use it."""
        if self._passing:
            self._passing = False
            logger.warning(
                "States are signed with a secret of this process, and end with it; set UNROLL_STATE_SECRET or "
                "UNROLL_STATE_SECRET_FILE to go on from them after a restart and on other servers."
            )
        key, expires = self._keys[0], int(self._clock() + self._seconds)
        head = HEAD.pack(VERSION, expires, bytes.fromhex(model.facts.digest), _short(model.fingerprint), _tag(holder))
        content = head + state.to_bytes(model.decoder.config.state_layout())
        return base64.urlsafe_b64encode(content + _mac(key, content)).rstrip(b"=").decode()

    def read(self, token: str, model: ServedModel, holder: bytes) -> RowState:
        """The state of a token.

        Raises ParameterError on one that is forged, damaged or expired, StateOfAnother on one that was made for another
        key or salt, and VersionGone on one of another model.
        """
        layout, columns = model.decoder.config.state_layout(), len(model.decoder.ids)
        content = self._authentic(token, most_bytes(layout, columns))
        _, expires, digest, arithmetic, tag = HEAD.unpack_from(content)
        if expires < self._clock():
            raise ParameterError("state", "The state has expired; begin with the text again.")
        if tag != _tag(holder):
            raise StateOfAnother(
                "The state was made for another API key or another cache_salt; send it with those it was made for."
            )
        if digest.hex() != model.facts.digest:
            raise VersionGone(
                f"The state is of another model or version, {digest.hex()[:12]}; this server has {model.name!r}, "
                f"{model.facts.digest[:12]}. Begin with the text again."
            )
        if arithmetic != _short(model.fingerprint):
            raise VersionGone(
                "The state was computed in another arithmetic than this server's; begin with the text again."
            )
        return RowState.from_bytes(content[HEAD.size :], layout, columns)

    def _authentic(self, token: str, most: int) -> bytes:
        """What a token says, if one of the secrets has signed it. most: bytes of a state."""
        longest = (HEAD.size + most + MAC_BYTES) * 4 // 3 + 4
        if len(token) > longest or not TEXT.fullmatch(token):
            raise ParameterError("state", FORGED)
        try:
            signed = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        except binascii.Error:
            raise ParameterError("state", FORGED) from None
        content, mac = signed[:-MAC_BYTES], signed[-MAC_BYTES:]
        authentic = [hmac.compare_digest(_mac(key, content), mac) for key in self._keys]
        if not any(authentic) or len(content) < HEAD.size or content[0] != VERSION:
            raise ParameterError("state", FORGED)
        return content


def _mac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")


def _short(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:8]


def _tag(holder: bytes) -> bytes:
    return hashlib.sha256(b"holder" + holder).digest()[:8]
