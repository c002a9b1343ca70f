"""What recipes have in common: a command of Unroll is run, a text read, an error told as a sentence."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import typer

import unroll

QUICK = "quick"  # folder, in that of a recipe, of what a miniature leaves: a whole run there is not touched
REFUSED, INTERRUPTED = 2, 130  # exit codes
FULL = (errno.ENOSPC, errno.EDQUOT)
INSTALLATION = "pip install -e '.[examples]'"


class RecipeError(Exception):
    """What a recipe needs is not there, or cannot be used; the text says what to do."""


@contextmanager
def errors_told() -> Iterator[None]:
    """End with a sentence and an exit code where a recipe cannot go on, or Ctrl-C ended it; a decorator of commands."""
    try:
        yield
    except (RecipeError, unroll.UnrollError) as error:
        _end(str(error))
    except ModuleNotFoundError as error:
        _end(f"The recipe needs {error.name}; install it with `{INSTALLATION}`.")
    except OSError as error:
        if error.filename is None and error.errno not in FULL:
            raise
        _end(f"{error.filename or 'The folder of --out'} cannot be used: {error.strerror}.")
    except KeyboardInterrupt as error:
        _end(str(error) or "Stopped.", INTERRUPTED)


def _end(sentence: str, code: int = REFUSED) -> None:
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


def need(*modules: str) -> None:
    """See that packages are there before hours are spent. Raises RecipeError with those that lack."""
    lacking = [module for module in modules if find_spec(module) is None]
    if lacking:
        raise RecipeError(f"The recipe needs {', '.join(lacking)}; install what lacks with `{INSTALLATION}`.")


def text_of(file: Path) -> str:
    """What a file says. Raises OSError where it cannot be read, and RecipeError where it is not UTF-8."""
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{file} is not text in UTF-8 at byte {error.start:,}; write it anew, for example with "
            f"`iconv -f latin1 -t utf-8 {file}`."
        ) from None


def command(*arguments: str, shown: bool = False) -> str:
    """Run a command of Unroll; what it writes to its output. Raises RecipeError with what it said where it fails.

    shown: let it write to the terminal; after Ctrl-C, which it hears as well, it is waited for while it saves.
    """
    words = [sys.executable, "-m", "unroll", *arguments]
    pipe = None if shown else subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            out, err = process.communicate()
        except KeyboardInterrupt:
            if shown:
                process.wait()
            else:
                process.kill()
            raise
    if process.returncode:
        said = "see above." if shown else (err or out).strip().removeprefix("unroll: ")
        raise RecipeError(f"`unroll {arguments[0]}` could not do its work: {said}")
    return out or ""
