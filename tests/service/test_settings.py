"""Settings are checked when they are made, and an error names the setting, its flag and its variable."""

import socket
from pathlib import Path
from typing import Any

import pytest

from service.errors import SettingsError
from service.server import listen
from service.settings import RANGES, Settings, is_loopback


def test_defaults_are_safe() -> None:
    settings = Settings()
    assert is_loopback(settings.host)
    assert settings.port == 8000
    assert settings.max_body_bytes == 8 * 2**20
    assert settings.max_prompt_characters == 1_000_000


WRONG = [
    *((name, wrong) for name, (least, most) in RANGES.items() for wrong in (least - 1, most + 1)),
    ("grace_seconds", float("nan")),
    ("arithmetic", "int4"),
    ("log_level", "loud"),
    ("name", ""),
    ("name", "x" * 201),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_out_of_range_is_refused(name: str, value: Any) -> None:
    flag = "--" + name.replace("_", "-")
    with pytest.raises(SettingsError, match=rf"^{name} is .*; choose .* with {flag} or UNROLL_{name.upper()}\.$"):
        Settings(**{name: value})


@pytest.mark.parametrize(("name", "least", "most"), [(name, *limits) for name, limits in RANGES.items()])
def test_the_ends_of_a_range_are_taken(name: str, least: float, most: float) -> None:
    assert getattr(Settings(**{name: least}), name) == least  # type: ignore[arg-type]
    assert getattr(Settings(**{name: most}), name) == most  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("checkpoint", "name", "expected"),
    [
        (None, None, "shakespeare"),
        ("runs/book/best", None, "book"),
        ("runs/book/last", None, "book"),
        ("runs/book/step-100", None, "step-100"),
        ("book", None, "book"),
        ("runs/book/best", "mine/1", "mine/1"),
    ],
)
def test_a_model_is_called_after_its_folder(checkpoint: str | None, name: str | None, expected: str) -> None:
    assert Settings(checkpoint=Path(checkpoint) if checkpoint else None, name=name).model_name == expected


def test_a_port_in_use_is_an_error_with_a_remedy() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1 port {port} .*--port"):
            listen("127.0.0.1", port)


def test_small_pieces_are_sent_at_once() -> None:
    """asyncio turns off Nagle's algorithm, worth 40 ms a piece, only on sockets that say they are TCP."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_host_that_is_not_ours_is_an_error_with_a_remedy() -> None:
    with pytest.raises(SettingsError, match="--host"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "safe"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_only_this_machine_is_safe(host: str, safe: bool) -> None:
    assert is_loopback(host) is safe
