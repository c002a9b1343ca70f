"""The sockets a server listens on: for an address, for IPv4 and IPv6 if a name means both, or a Unix socket."""

import errno
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.errors import SettingsError

GONE = 64  # the most reset connections that are dropped before one is accepted
LEFT_SECONDS = 0.005  # for which a waiting connection is left to other processes
BACKLOG = 2048  # connections that may wait to be accepted
BOTH = {"localhost": ("127.0.0.1", "::1"), "": ("0.0.0.0", "::")}  # clients try either first
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # this machine has no such address
EVERYBODY = 0o666  # anyone may connect to a Unix socket, as to a port; its folder restricts who can reach it


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at an address: one, or for localhost and for an empty host one of each family.

    All have the same port, a free one if it is 0. A family that the machine does not have is left out. Raises
    SettingsError if the server cannot listen there.
    """
    names = BOTH.get(host, (host,))
    listeners: list[socket.socket] = []
    try:
        for name in names:
            try:
                listeners.append(_bound(name, port, alone=len(names) == 1))
            except OSError as error:
                if error.errno not in ABSENT or (name == names[-1] and not listeners):
                    raise
            else:
                port = listeners[0].getsockname()[1]
    except (OSError, UnicodeError) as error:  # an invalid name fails in its encoding
        for one in listeners:
            one.close()
        reason = getattr(error, "strerror", None) or "it is no address"
        raise SettingsError(
            f"The server cannot listen on {host} port {port} ({reason}); "
            "choose another with --host and --port, or stop what uses it."
        ) from error
    return listeners


def _bound(name: str, port: int, alone: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    # The protocol by its number: asyncio sends small pieces at once only on sockets that say they are TCP.
    listener = Listener(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6 and not alone:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


class Listener(socket.socket):
    """A socket that listens. Connections that were reset while they waited are dropped before they cost anything.

    So a flood of clients that disconnect at once is handled faster than it comes, and others do not wait behind it.
    """

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; raises BlockingIOError if there is none."""
        for _ in range(GONE):
            connection, address = super().accept()
            try:
                connection.getpeername()
            except OSError:
                connection.close()
            else:
                return connection, address
        raise BlockingIOError(errno.EAGAIN, "more in the next pass")


class FairListener(Listener):
    """A socket that several processes listen on; a process with more than its share leaves connections to the others.

    Connections are kept for many requests, and the process that is woken first would get most of them. crowded:
    whether this process has more than its share. It takes a connection after all if the others, as they are busy or
    hang, do not.
    """

    def __init__(self, listener: socket.socket, crowded: Callable[[], bool]) -> None:
        super().__init__(fileno=listener.detach())
        self._crowded = crowded
        self._until = 0.0  # when a waiting connection is accepted after all

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; raises BlockingIOError if it is left to others, and if there is none."""
        now = time.monotonic()
        if self._crowded():
            if now > self._until + LEFT_SECONDS:  # it is another one
                self._until = now + LEFT_SECONDS
            if now < self._until:
                raise BlockingIOError(errno.EAGAIN, "it is left to another process")
        return super().accept()


def listen_unix(path: Path) -> socket.socket:
    """A Unix socket that listens; one that an earlier server left behind is replaced.

    Raises SettingsError if it cannot be created, and if another server listens on it.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listener.bind(str(path))
        path.chmod(EVERYBODY)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise SettingsError(
            f"The server cannot listen on the socket {path} ({reason}); name another path with --uds, of at most 107 "
            "bytes, in a folder that may be written, or stop what uses it."
        ) from error
    return listener


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises OSError if it is in use or not a socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "it is there already, and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another server listens there")
