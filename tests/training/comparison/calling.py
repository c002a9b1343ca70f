"""The verb `compare`, called in this process."""

from pathlib import Path

from typer.testing import CliRunner

from unroll import program


def compare(*words: str | Path) -> str:
    """What it writes to standard output where it succeeds; its exception is raised."""
    result = CliRunner().invoke(program, ["compare", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout
