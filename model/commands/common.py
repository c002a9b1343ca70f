"""What the verbs of model/ have in common: words of their options, and how they write text, JSON and notes."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from model.command_line.console import TerminalConsole
from model.command_line.terminal import counted, drop_output, for_terminal, json_for_terminal, never_fail
from model.errors import ParameterError
from model.files import NO_ROOM
from model.memory import FEWEST_BYTES, VARIABLE

CHECKPOINT = "Checkpoint folder, as `unroll train` writes it."
BUNDLED = "the bundled one"
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended
JSON = "Print one JSON object instead."
LONGEST_PATH = 200  # characters of one that an error shows
RAY = (
    "a Ray cluster: that at HOST:PORT, or without an address the one there is, else this machine's cores. Needs the "
    "extra `ray`."
)

MOST_BYTES = {"envvar": VARIABLE, "min": FEWEST_BYTES}  # what typer takes for the limit on what loading takes


def write(text: str) -> None:
    """Text at once: as it is into a file or pipe, harmless on a terminal.

    A character that the encoding lacks becomes a question mark.
    """
    never_fail(sys.stdout)
    sys.stdout.write(for_terminal(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """One JSON object in UTF-8, as RFC 8259 wants it, also where the terminal's encoding is another."""
    written = json_for_terminal(json.dumps(value, indent=2, ensure_ascii=False))
    sys.stdout.buffer.write(f"{written}\n".encode())
    sys.stdout.flush()


def refuse(sentence: str, status: int = 1) -> NoReturn:
    """End with a sentence on standard error and an exit code."""
    TerminalConsole(stderr=True).say(f"unroll: {sentence}", style="red")
    sys.exit(status)


def refuse_unusable(error: OSError, status: int = 1) -> NoReturn:
    """End with a sentence where an error of the system is about a path, or a disk that is full; else raise it again."""
    if isinstance(error.filename, str | bytes):
        path = os.fsdecode(error.filename)
        shown = f"{path[:LONGEST_PATH]}{'…' * (len(path) > LONGEST_PATH)}"
        what = "Free some space" if error.errno in NO_ROOM else "Check the path"
        refuse(f"{shown} cannot be used: {error.strerror}. {what}, or name another.", status)
    if error.errno not in NO_ROOM:
        raise error
    with suppress(OSError):
        sys.stdout.flush()
    drop_output()
    refuse(f"The output cannot be written ({error.strerror}); free some space, or write it elsewhere.", status)


def check_ray(address: str | None, threads: int | None) -> None:
    """Raise ParameterError where there are threads of this machine, and a cluster that does the work."""
    if address is not None and threads is not None:
        raise ParameterError("threads", "--threads is of this machine and --ray uses a cluster; leave out one of them.")


def note_nodes(nodes: Mapping[str, int]) -> None:
    """Say which nodes of a cluster did how many blocks."""
    said = ", ".join(f"{name} did {counted(blocks, 'block')}" for name, blocks in sorted(nodes.items()))
    note(f"Worked on {counted(len(nodes), 'node')}: {said}." if said else "There was nothing for the cluster to do.")


def note(message: str) -> None:
    """One line on standard error."""
    TerminalConsole(stderr=True).say(f"note: {message}", style="yellow")
