"""Every setting of the server, as one value made at the start and passed down."""

import ipaddress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from service.errors import SettingsError

Arithmetic = Literal["int8", "fp32"]
Device = Literal["cpu", "cuda"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

ENVIRONMENT = "UNROLL_"  # every setting is also read from this prefix and its name in capitals

# A trainer's run keeps its checkpoints under these names; the run is what a person called the model.
PLACES_IN_A_RUN = ("best", "last")
BUNDLED_NAME = "shakespeare"

# Groups of `unroll serve --help`.
MODEL, ACCESS, LIMITS, CONNECTIONS, LOGS = "Model", "Access", "Limits", "Connections", "Logs"

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")  # names a browser here may know the server by


def setting(
    default: Any,
    description: str,
    panel: str | None = None,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field of Settings, with all that its flag, its variable and its documentation need.

    least, most: of a number; the most are far above what one machine serves, and stop typing errors.
    secret: never shown.
    """
    metadata = {"description": description, "panel": panel, "range": (least, most), "choices": choices}
    return field(default=default, metadata={**metadata, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to serve; what each setting means, its default and its range stand beside it.

    Raises SettingsError on a value out of range.
    """

    checkpoint: Path | None = setting(None, "Folder of the model to serve.")
    host: str = setting("127.0.0.1", "Address to listen on; all but loopback addresses are open to the network.")
    port: int = setting(8000, "TCP port; 0 takes a free one.", least=0, most=65_535)
    grace_seconds: float = setting(
        30.0, "Seconds running texts have to end after the signal to stop.", least=0, most=86_400
    )
    stream_interval: float = setting(
        20.0,
        "Milliseconds between two events of a stream, unless a request says otherwise; the first comes at once, and "
        "0 sends each character on its own.",
        least=0,
        most=10_000,
    )
    keep_alive_seconds: float = setting(
        15.0, "Seconds of silence before a stream sends a comment, so that nobody gives it up.", least=0.01, most=86_400
    )
    stall_seconds: float = setting(
        10.0, "Seconds without a step, while texts wait for one, before the server calls itself not ready.",
        least=0.1, most=86_400,
    )  # fmt: skip

    name: str | None = setting(
        None, "What requests call the model. [default: its folder, or a run's folder for best and last]", MODEL
    )
    arithmetic: Arithmetic = setting("int8", "int8 is fast, fp32 rounds nothing.", MODEL, choices=get_args(Arithmetic))
    device: Device = setting("cpu", "cpu, or cuda for a GPU by PyTorch.", MODEL, choices=get_args(Device))
    threads: int = setting(
        1, "Threads that generate, on a core each; one text alone is no faster with more.", MODEL, least=1, most=256
    )

    api_keys: str | None = setting(
        None,
        "Keys that open the server, separated by commas; a file keeps them out of lists of processes.",
        ACCESS,
        secret=True,
    )
    api_keys_file: Path | None = setting(
        None, "File of keys, one a line, as they are or as sha256:HEX; read again on SIGHUP.", ACCESS
    )
    allowed_hosts: str | None = setting(
        None,
        "Names in the Host header that are answered, separated by commas; * is any. "
        "[default: this machine's own on a loopback address, any elsewhere]",
        ACCESS,
    )
    cors_origins: str | None = setting(
        None, "Origins whose pages may call the server, separated by commas; * is any. [default: none]", ACCESS
    )
    trusted_proxies: str | None = setting(
        None,
        "Addresses of proxies that may tell whose request they pass on (X-Forwarded-For), separated by commas. "
        "[default: none]",
        ACCESS,
    )
    tls_certificate: Path | None = setting(None, "Certificate chain in PEM; serves https.", ACCESS)
    tls_key: Path | None = setting(None, "Its private key in PEM, where the certificate's file has none.", ACCESS)

    max_rows: int = setting(
        128, "Texts written side by side; a request with n = 3 is three.", LIMITS, least=1, most=4_096
    )
    max_waiting: int = setting(
        1024, "Texts that may wait for a slot; more are refused.", LIMITS, least=0, most=1_000_000
    )
    max_body_bytes: int = setting(8 << 20, "Bytes a request's body may have.", LIMITS, least=1_024, most=1 << 30)
    max_prompt_characters: int = setting(
        1_000_000, "Characters a request's prompts may have.", LIMITS, least=1, most=100_000_000
    )
    max_held_characters: int = setting(
        16_000_000,
        "Characters all prompts, running and waiting, may have together; 12 bytes each in memory at most.",
        LIMITS,
        least=1,
        most=10_000_000_000,
    )
    max_untaken_characters: int = setting(
        4_000_000,
        "Characters of a stream that may wait for a slow reader, with a number beside one counted as one; then it ends "
        "with an error.",
        LIMITS,
        least=1_000,
        most=10_000_000_000,
    )
    max_work: int = setting(
        20_000_000,
        "Characters one request may ask for: its prompts' and what may be drawn of all its texts, times how many "
        "likeliest ones are reported of each, and one.",
        LIMITS,
        least=1,
        most=1_000_000_000_000,
    )
    memory_budget_bytes: int | None = setting(
        None,
        "Memory for all requests together: bodies as they arrive, what is made of them, texts and answers not taken. "
        "[default: 256 MB, or a quarter of the memory there is]",
        LIMITS,
        least=1 << 20,
        most=1 << 40,
    )
    prefix_cache_bytes: int = setting(
        64 << 20, "Memory for the states after prompts used before; 0 keeps none.", LIMITS, least=0, most=1 << 40
    )
    deadline_seconds: float = setting(
        600.0, "Seconds a request may take, waiting included; 0 sets no limit.", LIMITS, least=0, most=31_536_000
    )
    key_requests_per_minute: float = setting(
        0.0, "Requests each key may make in a minute, each address where there are no keys; 0 sets no limit.", LIMITS,
        least=0, most=1_000_000_000,
    )  # fmt: skip
    key_concurrent_requests: int = setting(
        0, "Requests each key, or address, may have open at once; 0 sets no limit.", LIMITS, least=0, most=1_000_000
    )

    max_connections: int = setting(
        2_048, "Connections open at once; more are told to come back.", CONNECTIONS, least=1, most=1_000_000
    )
    max_header_bytes: int = setting(
        16_384, "Bytes the headers of a request may have.", CONNECTIONS, least=512, most=1 << 20
    )
    header_seconds: float = setting(
        10.0, "Seconds a connection has to send the headers of its first request.", CONNECTIONS, least=0.01, most=3_600
    )
    body_seconds: float = setting(60.0, "Seconds a request has to send its body.", CONNECTIONS, least=0.01, most=86_400)
    send_seconds: float = setting(
        30.0, "Seconds a reader may keep what is ready for it waiting.", CONNECTIONS, least=0.01, most=86_400
    )
    idle_seconds: float = setting(
        30.0, "Seconds a connection is kept between two requests.", CONNECTIONS, least=0, most=3_600
    )

    log_level: LogLevel = setting("info", "Least important messages to write.", LOGS, choices=get_args(LogLevel))
    log_format: LogFormat = setting(
        "text", "Lines for people, or a JSON object each for programs.", LOGS, choices=get_args(LogFormat)
    )
    access_log: bool = setting(True, "Log each request, but those for health and metrics.", LOGS)
    log_prompts: bool = setting(False, "Log what is asked, too.", LOGS)

    def __post_init__(self) -> None:
        for setting_ in fields(self):
            self._check(setting_.name, setting_.metadata)
        if self.name is not None and not 0 < len(self.name) <= 200:
            raise self._out_of_range("name", "1 to 200 characters")
        if self.tls_key is not None and self.tls_certificate is None:
            raise SettingsError("There is a tls_key and no certificate; name it with --tls-certificate.")

    def _check(self, name: str, about: Any) -> None:
        value, (least, most) = getattr(self, name), about["range"]
        if value is None:
            return
        if least is not None and not least <= value <= most:  # also refuses NaN
            raise self._out_of_range(name, f"a number from {least:,} to {most:,}")
        if about["choices"] and value not in about["choices"]:
            raise self._out_of_range(name, "one of " + ", ".join(about["choices"]))

    def _out_of_range(self, name: str, wanted: str) -> SettingsError:
        flag, variable = flag_of(name), variable_of(name)
        return SettingsError(f"{name} is {getattr(self, name)!r}; choose {wanted} with {flag} or {variable}.")

    @property
    def model_name(self) -> str:
        """What the model is called in requests."""
        if self.name is not None:
            return self.name
        if self.checkpoint is None:
            return BUNDLED_NAME
        folder = self.checkpoint.resolve()
        return (folder.parent.name if folder.name in PLACES_IN_A_RUN else "") or folder.name or BUNDLED_NAME

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """Names that are answered, in lower case; None = any. On a loopback address it is that machine's own, so that
        a page elsewhere whose name is made to point here gets nothing (DNS rebinding)."""
        if self.allowed_hosts is None:
            return (*THIS_MACHINE, self.host.lower()) if is_loopback(self.host) else None
        names = listed(self.allowed_hosts.lower())
        return None if "*" in names else names


def flag_of(name: str) -> str:
    """The flag of a setting; the checkpoint is an argument."""
    return "CHECKPOINT" if name == "checkpoint" else "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT + ("MODEL" if name == "checkpoint" else name.upper())


def listed(names: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


RANGES: dict[str, tuple[float, float]] = {
    one.name: one.metadata["range"] for one in fields(Settings) if one.metadata["range"][0] is not None
}
"""Least and most of each number."""
