"""Options whose value may be left out take a word that is one, and leave all others alone."""

import importlib.util

import pytest
from typer.testing import CliRunner

from model.command_line.optional_values import completed
from unroll import program


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("--ray", "--ray=auto"),
        ("--ray today.log", "--ray=auto today.log"),
        ("--ray runs/log/best today.log", "--ray=auto runs/log/best today.log"),
        ("--ray --top 3", "--ray=auto --top 3"),
        ("--ray 10.0.0.1:6379 today.log", "--ray 10.0.0.1:6379 today.log"),
        ("--ray [::1]:6379", "--ray [::1]:6379"),
        ("--ray local -", "--ray local -"),
        ("--ray=head:6379 -", "--ray=head:6379 -"),
        ("--top 3 -- --ray", "--top 3 -- --ray"),
        ("--other today.log", "--other today.log"),
    ],
)
def test_a_word_that_is_no_value_is_left_alone(words: str, read: str) -> None:
    assert completed(words.split(), {"--ray", "--top"}) == read.split()


def test_a_command_without_the_option_is_left_alone() -> None:
    assert completed(["--ray"], {"--top"}) == ["--ray"]


def said(*words: str) -> str:
    result = CliRunner(env={"COLUMNS": "400"}).invoke(program, words)
    return " ".join(f"{result.stderr} {result.exception}".split())


def test_what_goes_with_a_cluster() -> None:
    assert "--threads is of this machine" in said("score", "--ray", "--threads", "2", "README.md")
    assert "--memory file reads one line after the other" in said("score", "README.md", "--memory", "file", "--ray")
    assert "--threads is of this machine" in said("generate", "--count", "3", "--threads", "2", "--ray", "auto")


def test_a_list_on_a_cluster_needs_a_count() -> None:
    from model.commands.generate_list import ListOptions
    from model.errors import ParameterError

    with pytest.raises(ParameterError, match="--ray needs a list"):
        ListOptions(ray="auto").check(1, False)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_that_is_missing_is_said() -> None:
    assert "pip install 'unroll[ray]'" in said("score", "README.md", "--ray")
