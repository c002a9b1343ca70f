"""The verb `health`: asks the server on this machine whether it is well, for the health check of a container."""

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Annotated, Any

import typer

from model.command_line.terminal import in_a_line
from service.errors import SettingsError
from service.setting_fields import port_number
from service.settings import Settings, flag_of, variable_of

READY, LIVE = "/health/ready", "/health/live"
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # a server on all addresses listens on these, too
TIMEOUT_SECONDS = 3.0  # below the five of the image's health check, so that this program can say what is wrong
MOST_BYTES = 65_536  # of an answer, as another program on the port may send anything


def _like_the_server(name: str, **more: Any) -> Any:
    """A flag with the meaning and the environment variable it has for `unroll serve`."""
    return typer.Option(flag_of(name), envvar=variable_of(name), **more)


def health(
    host: Annotated[str, _like_the_server("host", help="Address the server listens on.")] = Settings.host,
    port: Annotated[
        int, _like_the_server("port", help="Its TCP port.", parser=port_number, metavar="INTEGER")
    ] = Settings.port,
    uds: Annotated[Path | None, _like_the_server("uds", help="Its Unix socket, where it listens on one.")] = None,
    tls_certificate: Annotated[
        Path | None, _like_the_server("tls_certificate", help="Its certificate, where it serves https.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask only whether it answers, not whether it takes work.")
    ] = False,
    timeout_seconds: Annotated[float, typer.Option(help="Seconds to wait.", min=0.01)] = TIMEOUT_SECONDS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead, well or not.")] = False,
) -> None:
    """Ask the server on this machine how it is: exit code 0 when it is well, 1 with a sentence when not.

    Takes the variables `unroll serve` takes, so that in a container it asks the server that runs there.

    Examples:

      unroll health

      unroll health --port 9000 --live

      unroll health --json
    """
    settings = Settings(host=host, port=port, uds=uds, tls_certificate=tls_certificate)
    path = LIVE if live else READY
    if not as_json:
        typer.echo(in_a_line(ask(settings, path, timeout_seconds)))
        return
    place: dict[str, Any] = {"host": host, "port": port} if uds is None else {"uds": str(uds)}
    answer: dict[str, Any] = {"well": True, **place, "path": path}
    try:
        answer["message"] = ask(settings, path, timeout_seconds)
    except SettingsError as error:
        answer |= {"well": False, "message": str(error)}
    typer.echo(json.dumps(answer))
    raise typer.Exit(0 if answer["well"] else 1)


def ask(settings: Settings, path: str, timeout_seconds: float) -> str:
    """What the server answers about itself, as a sentence.

    Raises SettingsError if it is not well or does not answer in time, or if something else answers.
    """
    connection = _connection(settings, timeout_seconds)
    where = f"{connection.host} port {connection.port}" if settings.uds is None else f"the socket {settings.uds}"
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SettingsError(
            f"No server answers on {where} ({reason}); start one, or name its address with --host and --port or --uds, "
            "and its --tls-certificate where it serves https."
        ) from error
    finally:
        connection.close()
    if (status := _status(body)) is None:
        raise SettingsError(f"What answers on {where} is not Unroll; name the server's address with --host and --port.")
    if answer.status != 200:
        raise SettingsError(f"The server on {where} is not well: {path} answers {answer.status}, {status}.")
    return f"The server on {where} is well: {path} answers {status}."


def _connection(settings: Settings, timeout_seconds: float) -> http.client.HTTPConnection:
    host = ANYWHERE.get(settings.host, settings.host)
    if settings.uds is not None:
        return UnixConnection(settings, timeout_seconds)
    if settings.tls_certificate is None:
        return http.client.HTTPConnection(host, settings.port, timeout=timeout_seconds)
    return http.client.HTTPSConnection(host, settings.port, timeout=timeout_seconds, context=_unverified())


def _unverified() -> ssl.SSLContext:
    """Nothing secret is sent, and only to this machine. The certificate names the public host, and the file may be
    newer than what the server uses, so checking it proves nothing here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class UnixConnection(http.client.HTTPConnection):
    """A connection by the Unix socket of the settings."""

    def __init__(self, settings: Settings, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._settings = settings

    def connect(self) -> None:
        """Connect, with TLS where the server has a certificate."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._settings.uds))
        if self._settings.tls_certificate is not None:
            self.sock = _unverified().wrap_socket(self.sock)


def _status(body: bytes) -> str | None:
    """The status in the answer of a health route; None for any other answer."""
    try:
        return str(json.loads(body)["status"])[:100]
    except (ValueError, KeyError, TypeError):
        return None
