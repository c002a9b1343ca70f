"""Runs the program in this process, as typed on a command line."""

from typing import Any

from typer.testing import CliRunner

from unroll import make_program


def unroll(*words: Any) -> str:
    """What `unroll` and words print. Raises what they raise."""
    result = CliRunner().invoke(make_program(), [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output
