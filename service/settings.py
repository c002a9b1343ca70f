"""Every setting of the server, in one value that is made at the start and passed down."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from model.command_line import options
from model.command_line.options import Option, about, options_of
from model.command_line.terminal import in_a_line
from model.cores import available_cores
from model.memory import DEFAULT_MOST_BYTES, FEWEST_BYTES, HELP, LARGEST_MOST_BYTES
from service.errors import SettingsError
from service.setting_fields import ACCESS, CONNECTIONS, LIMITS, LOGS, MODEL, PORT, port_number, setting

Arithmetic = Literal["int8", "fp32"]
Device = Literal["cpu", "cuda"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

# The event loop feeds 5 threads with streams and 33 with whole answers (`python -m tests.benchmarks capacity`).
USEFUL_THREADS = 8

ENVIRONMENT = "UNROLL_"  # every setting is also read from this prefix and its name in capitals

# Names of checkpoints in the folder of a training run; the model is then called after the run's folder.
PLACES_IN_A_RUN = ("best", "last")
BUNDLED_NAME = "shakespeare"

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")  # names by which a browser on this machine may call the server


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to serve, with the meaning, default and range of each setting.

    Raises SettingsError on a value out of range.
    """

    checkpoint: Path | None = setting(
        None,
        "Folder of the model to serve, or NAME=FOLDER.",
        argument=True,
        shown="the Shakespeare model that comes with Unroll",
        variable="MODEL",
    )
    others: tuple[str, ...] = setting(
        (), "More models, each a folder or NAME=FOLDER.", argument=True, variable="MORE_MODELS"
    )
    host: str = setting(
        "127.0.0.1",
        "Address to listen on: localhost is IPv4 and IPv6, an empty one is all; any but a loopback address is open to "
        "the network.",
    )
    uds: Path | None = setting(None, "Unix socket to listen on, in place of an address and a port.")
    port: int = setting(
        PORT,
        "TCP port; 0 takes a free one.",
        least=0,
        most=65_535,
        metavar="INTEGER",
        typer={"parser": port_number},
    )
    grace_seconds: float = setting(
        30.0, "Seconds from a stop signal until the server ends; texts get nearly all of them.", least=0, most=86_400
    )
    stream_interval: float = setting(
        20.0,
        "Milliseconds between two events of a stream, unless a request sets its own; the first comes at once, and "
        "0 sends each character in an event of its own.",
        least=0,
        most=10_000,
    )
    keep_alive_seconds: float = setting(
        15.0, "Seconds of silence before a stream sends a comment, so that it is not cut off.", least=0.01, most=86_400
    )
    first_comment_seconds: float = setting(
        1.0,
        "Seconds until a stream that waits, or whose prompt is read, sends its first bytes: a comment. An error before "
        "that has its own HTTP status, a later one is an event.",
        least=0,
        most=86_400,
    )
    stall_seconds: float = setting(
        10.0, "Seconds without a step, while there is work, after which the server is not ready.",
        least=0.1, most=86_400,
    )  # fmt: skip
    watchdog_seconds: float = setting(
        60.0,
        "Seconds the event loop may make no pass before the process ends with status 70, to be started anew; 0 sets no "
        "limit.",
        least=0,
        most=86_400,
    )

    name: str | None = setting(
        None, "Name of the model in requests. [default: its folder, or a run's folder for best and last]", MODEL
    )
    models: Path | None = setting(
        None, "Folder of models: each checkpoint or run in it is served by its name; changes are loaded.", MODEL
    )
    default_model: str | None = setting(
        None, "Model of requests that name none. [default: the first one named, or the first of the folder]", MODEL
    )
    pinned_models: str | None = setting(None, "Models that stay in memory, separated by commas.", MODEL)
    max_loaded_models: int = setting(
        0,
        "Most models in memory at once; others are loaded on request, replacing the least recently used. 0: any "
        "number.",
        MODEL,
        least=0,
        most=100_000,
    )
    model_memory: int | None = setting(
        None,
        "Memory for all models together, in bytes; they are loaded on request. [default: no limit]",
        MODEL,
        least=1 << 20,
        most=1 << 44,
    )
    alias: str | None = setting(
        None, "Other names of models, as gpt-3.5-turbo-instruct=shakespeare, separated by commas.", MODEL
    )
    chat: bool = setting(True, "Answer chats at /v1/chat/completions.", MODEL)
    chat_format: Path | None = setting(
        None, "File of JSON that says how a chat becomes a text. [default: that of the model, or a plain one]", MODEL
    )
    arithmetic: Arithmetic = setting("int8", "int8 is fast, fp32 rounds nothing.", MODEL, choices=get_args(Arithmetic))
    device: Device = setting(
        "cpu", "cpu, or cuda for a GPU with PyTorch (never run on one yet).", MODEL, choices=get_args(Device)
    )
    max_model_bytes: int = setting(DEFAULT_MOST_BYTES, HELP, MODEL, least=FEWEST_BYTES, most=LARGEST_MOST_BYTES)
    threads: int | None = setting(
        None,
        "Threads that generate, each on its core; one text alone is no faster with more. [default: the cores this "
        "process may use, at most 8]",
        MODEL,
        least=1,
        most=256,
    )

    processes: int = setting(
        1,
        "Processes behind the port, for many short requests: one event loop answers what one core can. They divide "
        "threads, slots and prefix cache among them, and share all limits.",
        MODEL,
        least=1,
        most=64,
    )

    api_keys: str | None = setting(
        None,
        "API keys, separated by commas; other users of the machine may see them, but not those of a file.",
        ACCESS,
        secret=True,
    )
    api_keys_file: Path | None = setting(
        None,
        "File of API keys, one a line, in plain or as sha256:HEX; models=A,B behind a key allows it these alone; read "
        "again on SIGHUP.",
        ACCESS,
    )
    allowed_hosts: str | None = setting(
        None,
        "Host names that the server answers to, separated by commas; * is any. "
        "[default: this machine's own on a loopback address, any elsewhere]",
        ACCESS,
    )
    cors_origins: str | None = setting(
        None, "Origins whose pages may call the server, separated by commas; * is any. [default: none]", ACCESS
    )
    trusted_proxies: str | None = setting(
        None,
        "Addresses of proxies whose X-Forwarded-For header is believed, separated by commas. [default: none]",
        ACCESS,
    )
    page: bool = setting(True, "Show the browser page at /, which needs no key; its data does.", ACCESS)
    root_path: str = setting(
        "", "Prefix of this server behind a proxy, such as /llm; the proxy may remove or keep it.", ACCESS
    )
    state_secret: str | None = setting(
        None,
        "Secrets for signing states, separated by commas; the first signs, all are accepted. Servers that share them "
        "accept each other's states. [default: a random one of the process]",
        ACCESS,
        secret=True,
    )
    state_secret_file: Path | None = setting(None, "File of such secrets, one a line.", ACCESS)
    state_seconds: float = setting(
        604_800.0, "Seconds for which a state is valid.", ACCESS, least=1, most=3_153_600_000
    )
    tls_certificate: Path | None = setting(None, "Certificate chain in PEM; serves https.", ACCESS)
    tls_key: Path | None = setting(None, "Private key of the certificate in PEM, if its file has none.", ACCESS)

    max_rows: int = setting(
        128, "Texts generated at once; a request with n = 3 has three.", LIMITS, least=1, most=4_096
    )
    max_waiting: int = setting(
        1024, "Texts that may wait for a slot; more are refused.", LIMITS, least=0, most=1_000_000
    )
    max_body_bytes: int = setting(8 << 20, "Most bytes of a request's body.", LIMITS, least=1_024, most=1 << 30)
    max_prompt_characters: int = setting(
        1_000_000, "Characters a request's prompts may have.", LIMITS, least=1, most=100_000_000
    )
    max_held_characters: int = setting(
        16_000_000,
        "Most characters of all running and waiting prompts together; each takes at most 12 bytes of memory.",
        LIMITS,
        least=1,
        most=10_000_000_000,
    )
    max_untaken_characters: int = setting(
        4_000_000,
        "Most characters of a stream that wait for a slow client, each reported number counted as one; with more the "
        "stream ends with an error.",
        LIMITS,
        least=1_000,
        most=10_000_000_000,
    )
    max_work: int = setting(
        20_000_000,
        "Most characters of one request, in its prompts and all its texts together; each character counts once more "
        "for each likeliest one reported beside it.",
        LIMITS,
        least=1,
        most=1_000_000_000_000,
    )
    max_answer_bytes: int = setting(
        64 << 20, "Most bytes of an answer that is not streamed.", LIMITS, least=1_000, most=1 << 40
    )
    memory_budget_bytes: int | None = setting(
        None,
        "Memory for all requests together: bodies, their parsed values, texts and answers that are not sent yet. "
        "[default: 256 MB, or a quarter of the memory there is]",
        LIMITS,
        least=1 << 20,
        most=1 << 40,
    )
    prefix_cache_bytes: int = setting(
        64 << 20, "Memory for states after earlier prompts; 0 stores none.", LIMITS, least=0, most=1 << 40
    )
    max_pattern_characters: int = setting(
        8_192, "Most characters of a regular expression that a text is to match.", LIMITS, least=1, most=1_000_000
    )
    max_schema_characters: int = setting(
        65_536, "Most characters of a JSON schema, a grammar or a list of choices.", LIMITS, least=1, most=10_000_000
    )
    constraint_seconds: float = setting(
        5.0, "Seconds that a pattern or schema may take to be compiled.", LIMITS, least=0.01, most=3_600
    )
    constraint_memory_bytes: int = setting(
        1 << 30, "Memory of the process that compiles patterns and schemas.", LIMITS, least=1 << 28, most=1 << 40
    )
    constraint_cache_bytes: int = setting(
        32 << 20, "Memory for compiled patterns and schemas; 0 stores none.", LIMITS, least=0, most=1 << 40
    )
    deadline_seconds: float = setting(
        600.0, "Seconds a request may take, with the time it waits; 0 sets no limit.", LIMITS, least=0, most=31_536_000
    )
    key_requests_per_minute: float = setting(
        0.0, "Requests a minute for each key, or for each address if there are no keys; 0 sets no limit.", LIMITS,
        least=0, most=1_000_000_000,
    )  # fmt: skip
    key_concurrent_requests: int = setting(
        0, "Open requests for each key, or for each address; 0 sets no limit.", LIMITS, least=0, most=1_000_000
    )

    max_connections: int = setting(
        2_048, "Most open connections; more are asked to come back.", CONNECTIONS, least=1, most=1_000_000
    )
    max_address_connections: int = setting(
        1_024,
        "Connections of one address, or one IPv6 network (/64); those beyond may only ask for health and metrics. 0 "
        "sets no limit, as for the proxies of trusted_proxies.",
        CONNECTIONS,
        least=0,
        most=1_000_000,
    )
    management_port: int | None = setting(
        None,
        "TCP port for health and metrics alone, with connections of its own, on the same address. [default: none]",
        CONNECTIONS,
        least=0,
        most=65_535,
    )
    max_header_bytes: int = setting(
        16_384, "Most bytes of the headers of a request.", CONNECTIONS, least=512, most=1 << 20
    )
    header_seconds: float = setting(
        10.0, "Seconds a connection has to send the headers of its first request.", CONNECTIONS, least=0.01, most=3_600
    )
    body_seconds: float = setting(60.0, "Seconds a request has to send its body.", CONNECTIONS, least=0.01, most=86_400)
    send_seconds: float = setting(
        30.0, "Seconds a client may take to read what is sent.", CONNECTIONS, least=0.01, most=86_400
    )
    idle_seconds: float = setting(
        75.0,
        "Seconds an idle connection is kept between two requests; must be longer than in the proxy in front.",
        CONNECTIONS,
        least=0,
        most=3_600,
    )

    log_level: LogLevel = setting("info", "Least important kind of message to log.", LOGS, choices=get_args(LogLevel))
    log_format: LogFormat = setting(
        "text", "text: lines for people; json: an object for each message.", LOGS, choices=get_args(LogFormat)
    )
    access_log: bool = setting(True, "Log each request, except those for health and metrics.", LOGS)
    log_prompts: bool = setting(False, "Also log prompts.", LOGS)

    def __post_init__(self) -> None:
        for one in options_of(Settings):
            self._check(one.name, about(one))
        if self.name is not None and not 0 < len(self.name) <= 200:
            raise self._out_of_range("name", "1 to 200 characters")
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", self.root_path):
            raise self._out_of_range("root_path", "a path such as /llm")
        if self.tls_key is not None and self.tls_certificate is None:
            raise SettingsError("There is a tls_key and no certificate; name it with --tls-certificate.")

    def _check(self, name: str, said: Option) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if said.range is not None and not said.range.least <= value <= said.range.most:  # also refuses NaN
            raise self._out_of_range(name, said.range.words)
        if said.choices and value not in said.choices:
            raise self._out_of_range(name, "one of " + ", ".join(said.choices))

    def _out_of_range(self, name: str, wanted: str) -> SettingsError:
        flag, variable = flag_of(name), variable_of(name)
        return SettingsError(f"{name} is {getattr(self, name)!r}; choose {wanted} with {flag} or {variable}.")

    @property
    def model_name(self) -> str:
        """The name of the model in requests."""
        if self.name is not None:
            return self.name
        if self.checkpoint is None:
            return BUNDLED_NAME
        return name_of_folder(self.checkpoint)

    @property
    def workers(self) -> int:
        """Threads that generate: as many as asked for, else as cores that are of use, and never more than slots."""
        cores = 1 if self.device == "cuda" else min(available_cores(), USEFUL_THREADS * self.processes)
        return min(self.threads or cores, self.max_rows)

    @property
    def prefix(self) -> str:
        """What stands before the paths of the routes in those of a proxy: nothing, or such as /llm."""
        return self.root_path.rstrip("/")

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """Host names that the server answers to, in lower case; None = any. On a loopback address only those of this
        machine, so that web pages cannot reach it by a name that resolves to it (DNS rebinding)."""
        if self.allowed_hosts is None and self.uds is not None:  # which no web page can reach
            return None
        if self.allowed_hosts is None:
            return (*THIS_MACHINE, self.host.lower()) if is_loopback(self.host) else None
        names = listed(self.allowed_hosts.lower())
        return None if "*" in names else names


def name_of_folder(folder: Path) -> str:
    """The name of a model in that folder."""
    folder = folder.resolve()
    name = (folder.parent.name if folder.name in PLACES_IN_A_RUN else "") or folder.name or BUNDLED_NAME
    return in_a_line(name)  # of a folder, which may be no Unicode


def flag_of(name: str) -> str:
    """The flag of a setting; the checkpoint is an argument."""
    return options.flag_of(OPTIONS[name])


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT + about(OPTIONS[name]).variable_of(name)


def listed(names: str) -> tuple[str, ...]:
    """The parts between commas, without white space around them."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


OPTIONS = {one.name: one for one in options_of(Settings)}

RANGES = {name: (said.least, said.most) for name, one in OPTIONS.items() if (said := about(one).range) is not None}
"""Least and most of each number."""
