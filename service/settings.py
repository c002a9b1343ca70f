"""Everything a server can be told, as one value made at the start and passed down."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from service.errors import SettingsError

Arithmetic = Literal["int8", "fp32"]
Device = Literal["cpu", "cuda"]
LogLevel = Literal["debug", "info", "warning", "error"]

ENVIRONMENT = "UNROLL_"  # every setting is also read from this prefix and its name in capitals

# Least and most of each number; the most are far above what one machine serves, and stop typing errors.
RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "threads": (1, 256),
    "max_rows": (1, 4_096),
    "max_waiting": (0, 1_000_000),
    "max_body_bytes": (1_024, 1 << 30),
    "max_prompt_characters": (1, 100_000_000),
    "max_held_characters": (1, 10_000_000_000),
    "max_work": (1, 1_000_000_000_000),
    "prefix_cache_bytes": (0, 1 << 40),
    "stream_interval": (0, 10_000),
    "keep_alive_seconds": (0.01, 86_400),
    "deadline_seconds": (0, 31_536_000),
    "grace_seconds": (0, 86_400),
}

CHOICES = {"arithmetic": get_args(Arithmetic), "device": get_args(Device), "log_level": get_args(LogLevel)}

# A trainer's run keeps its checkpoints under these names; the run is what a person called the model.
PLACES_IN_A_RUN = ("best", "last")
BUNDLED_NAME = "shakespeare"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to serve. Raises SettingsError on a value out of range.

    checkpoint: folder of the model; None = the one that comes with Unroll.
    name: what the model is called in requests; None = after its folder.
    host: address to listen on; anything but this machine's own is open to everyone who can reach it.
    port: TCP port; 0 = any free one.
    arithmetic: "int8" is fast, "fp32" rounds nothing.
    device: "cuda" steps on a GPU with PyTorch, always in fp32, where "cpu" needs neither.
    threads: threads that generate, on a core each; a text stays with one, so one alone is no faster with more.
    max_rows: texts generated side by side; a request with n = 3 is three of them.
    max_waiting: texts that may wait for a place; more are refused.
    max_body_bytes: largest request body.
    max_prompt_characters: longest prompt of one request.
    max_held_characters: prompt characters of all requests together, running and waiting; 12 bytes each in memory
        at most.
    max_work: largest product of what one request asks for: its prompts' ids and what may be drawn of all its texts,
        times how many likeliest ids are reported of each, and one.
    prefix_cache_bytes: memory for the states after prompts used before; 0 = every prompt is read anew.
    stream_interval: milliseconds between two events of a stream, unless a request says otherwise; the first comes at
        once, and 0 = every character is an event of its own.
    keep_alive_seconds: after so much silence a stream has a comment line, so that nobody on its way gives it up.
    deadline_seconds: how long a request may take, its time in the queue included; 0 = as long as it wants.
    grace_seconds: how long running texts may take to end once the server is told to stop.
    log_level: the least important messages that are written to standard error.
    """

    checkpoint: Path | None = None
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    arithmetic: Arithmetic = "int8"
    device: Device = "cpu"
    threads: int = 1
    max_rows: int = 128
    max_waiting: int = 1024
    max_body_bytes: int = 8 << 20
    max_prompt_characters: int = 1_000_000
    max_held_characters: int = 16_000_000
    max_work: int = 20_000_000
    prefix_cache_bytes: int = 64 << 20
    stream_interval: float = 20.0
    keep_alive_seconds: float = 15.0
    deadline_seconds: float = 600.0
    grace_seconds: float = 30.0
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:  # also refuses NaN
                raise self._out_of_range(name, f"a number from {least:,} to {most:,}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise self._out_of_range(name, "one of " + ", ".join(choices))
        if self.name is not None and not 0 < len(self.name) <= 200:
            raise self._out_of_range("name", "1 to 200 characters")

    def _out_of_range(self, name: str, wanted: str) -> SettingsError:
        flag, variable = "--" + name.replace("_", "-"), ENVIRONMENT + name.upper()
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
