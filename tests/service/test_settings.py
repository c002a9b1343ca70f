"""Settings are checked when they are made, and an error names the setting, its flag and its variable."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from model.command_line.options import about
from model.cores import available_cores
from service.environment import check_environment
from service.errors import SettingsError
from service.setting_fields import port_number
from service.settings import RANGES, Settings, is_loopback, variable_of
from tests.service.serving import program


def test_threads_are_by_default_as_many_as_cores_of_use() -> None:
    assert Settings().workers == min(available_cores(), 8)
    assert Settings(threads=12).workers == 12
    assert Settings(threads=12, max_rows=3).workers == 3
    assert Settings(device="cuda").workers == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are chosen on Linux alone")
def test_threads_keep_to_the_cores_that_the_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert Settings().workers == 1
    finally:
        os.sched_setaffinity(0, before)


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
    *(("root_path", path) for path in ("llm", "//", "/a b", "/a?b", "http://x/llm")),
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


@pytest.mark.parametrize(
    ("host", "safe"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("", False),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.org", False),
    ],
)
def test_only_this_machine_is_safe(host: str, safe: bool) -> None:
    assert is_loopback(host) is safe


KNOWN = {variable_of(field.name) for field in fields(Settings)}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("UNROLL_PROT", "UNROLL_PORT"),
        ("UNROLL_API_KEY", "UNROLL_API_KEYS"),
        ("UNROLL_MAXROWS", "UNROLL_MAX_ROWS"),
        ("UNROLL_CHECKPOINT", "UNROLL_"),
        ("UNROLL_", "UNROLL_"),
    ],
)
def test_a_variable_that_is_no_setting_is_an_error_that_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(SettingsError, match=f"^The environment has {name}, which is no setting; perhaps {nearest}"):
        check_environment({"PATH": "/bin", name: "1"})


def test_variables_of_settings_and_of_kubernetes_are_no_errors() -> None:
    linked = ("UNROLL_SERVICE_HOST", "UNROLL_SERVICE_PORT", "UNROLL_SERVICE_PORT_HTTP", "UNROLL_PORT_8000_TCP_ADDR")
    check_environment(dict.fromkeys((*KNOWN, *linked, "UNROLLED", "unroll_port"), "1"))
    assert port_number("tcp://10.0.0.1:8000") == Settings.port
    assert port_number("9000") == 9000


def print_config(*arguments: str, **environment: str) -> list[str]:
    ended = program("serve", "--print-config", *arguments, **environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_the_settings_in_effect_are_shown_with_their_sources_and_without_their_secrets() -> None:
    secret = "s" * 32
    lines = print_config(
        "--max-rows", "3", UNROLL_MAX_ROWS="4", UNROLL_API_KEYS=secret, UNROLL_PORT="tcp://10.0.0.1:80"
    )
    shown = dict(line.split("#")[0].strip().split("=", 1) for line in lines)
    source = {line.split("=")[0]: line.rpartition("# ")[2] for line in lines}
    assert set(shown) == KNOWN
    assert (shown["UNROLL_MAX_ROWS"], source["UNROLL_MAX_ROWS"]) == ("3", "flag")
    assert (shown["UNROLL_API_KEYS"], source["UNROLL_API_KEYS"]) == ("***", "environment")
    assert (shown["UNROLL_HOST"], source["UNROLL_HOST"]) == ("127.0.0.1", "default")
    assert shown["UNROLL_PORT"] == "8000"
    assert secret not in "".join(lines)


def test_what_is_shown_can_be_given_back() -> None:
    """Every line is a variable as the server reads it, so that a deployment can start from it."""
    lines = [line.split("#")[0].strip() for line in print_config("--max-rows", "7", "--no-access-log")]
    given = dict(line.split("=", 1) for line in lines if not line.endswith("="))
    again = [line.split("#")[0].strip() for line in print_config(**given)]
    assert again == lines


def test_every_setting_is_documented() -> None:
    assert all(about(field).help.endswith((".", "]")) for field in fields(Settings))
