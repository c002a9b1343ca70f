"""TLS: the context from a certificate, and connections that are counted and timed already during their handshake."""

import asyncio
import ssl
from asyncio import sslproto
from collections.abc import Callable
from typing import Any, cast

from uvicorn.server import ServerState

from service.errors import SettingsError
from service.settings import Settings
from service.transport.connections import PROBE_SECONDS, Connection
from service.transport.shared_limits import SharedLimits
from service.transport.staged_transport import LINGER_SECONDS

OLDEST = ssl.TLSVersion.TLSv1_2  # RFC 8996 forbids older versions
READ_BUFFER = 32_768  # bytes that asyncio allocates per connection, by default 256 KiB; a TLS record has at most 16 KiB


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The context of the certificate and key in the settings; None if they name none.

    Raises SettingsError if they cannot be read or do not belong together.
    """
    if settings.tls_certificate is None:
        return None
    key = settings.tls_key or settings.tls_certificate
    for flag, path in (("--tls-certificate", settings.tls_certificate), ("--tls-key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise SettingsError(f"{path} cannot be read ({error.strerror}); name a PEM file with {flag}.") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = OLDEST
    context.options |= ssl.OP_NO_RENEGOTIATION  # otherwise one connection could request any number of handshakes
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The empty password makes a key with a passphrase fail: Python would ask for it at the terminal.
        context.load_cert_chain(settings.tls_certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise SettingsError(
            f"{settings.tls_certificate} and {key} are no certificate and the key it was made for ({reason}); name PEM "
            "files with --tls-certificate, the whole chain in it, and --tls-key, without a passphrase."
        ) from error
    return context


def secured(
    context: ssl.SSLContext, settings: Settings, shared: SharedLimits, plain: type[Connection]
) -> type[asyncio.Protocol]:
    """A factory of connections with TLS, for `http` of uvicorn.Config. plain: makes those without.

    Uvicorn's `ssl_…` options are not used: with them a connection counts only after its handshake, which may take a
    minute, so there could be any number of open handshakes.
    """
    sslproto.SSLProtocol.max_size = READ_BUFFER

    def make(**named: Any) -> Handshake:
        return Handshake(lambda: plain(**named), named["server_state"], context, settings, shared)

    return cast("type[asyncio.Protocol]", make)


class Handshake(asyncio.Protocol):
    """A connection during its handshake. make: makes the HTTP connection that follows.

    It counts as a connection. Beyond the limit it is cut off when a newer one comes, without an answer, as an answer
    would cost a handshake.
    """

    def __init__(
        self,
        make: Callable[[], Connection],
        state: ServerState,
        context: ssl.SSLContext,
        settings: Settings,
        shared: SharedLimits,
    ) -> None:
        self._make = make
        self._connections = cast("set[Any]", state.connections)
        self._context = context
        self._shared = shared
        self._seconds = settings.header_seconds
        self._transport: asyncio.Transport
        self._limit = shared.public
        self._task: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        address = transport.get_extra_info("peername")
        self._limit = self._shared.limit_of(transport)
        if not self._limit.enter(self, address[0] if isinstance(address, tuple) else ""):
            self._seconds = min(self._seconds, PROBE_SECONDS)
        self._task = asyncio.get_running_loop().create_task(self._secure())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Only called before the handshake has begun."""
        self._forget()

    def shutdown(self) -> None:
        """End when the server does."""
        self._forget()
        self._transport.abort()

    cut_off = shutdown

    def _forget(self) -> None:
        self._connections.discard(self)
        self._limit.leave(self)

    async def _secure(self) -> None:
        connection = self._make()
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport,
                connection,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._seconds,
                ssl_shutdown_timeout=LINGER_SECONDS,
            )
        except OSError:  # not TLS, too old, too slow, or gone: an error of the client, which is not logged
            self._transport.abort()
            return
        finally:
            self._forget()
        if transport is not None and not transport.is_closing():
            connection.connection_made(transport)
