"""`unroll generate --interactive`: through a pseudo-terminal, as a person has it, and from a pipe."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.checkpoint import load, save
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.generate import generate
from model.sampling.parameters import SamplingParameters
from model.text.frame import TextFrame
from model.text.tokenizer import Tokenizer
from tests.model.small import small_checkpoint
from unroll import make_program

ROOT = Path(__file__).parents[3]
SECONDS = 60  # until a test gives up
OPENING = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A pseudo-terminal in which a command runs."""

    def __init__(self, *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        command = [sys.executable, "-W", "error", "-m", "unroll", "generate", *arguments, "--interactive"]
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "500", "PYTHONUTF8": "1"}
        # A session of its own, whose terminal this is, so that Ctrl-C reaches it.
        opened = [sys.executable, "-c", OPENING, *command]
        self.process = subprocess.Popen(
            opened, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment, start_new_session=True
        )
        os.close(theirs)

    def write(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def read_until(self, end: str) -> str:
        """What the command writes, up to what is waited for."""
        until, seen = time.monotonic() + SECONDS, b""
        while end.encode() not in seen:
            assert select.select([self.ours], [], [], until - time.monotonic())[0], seen
            seen += os.read(self.ours, 4096)
        return seen.decode(errors="replace").replace("\r\n", "\n")

    def interrupt_until(self, end: str) -> None:
        """Press Ctrl-C until what is waited for is written.

        Python's readline misses an interrupt between the sign it shows and the keys it waits for.
        """
        until, seen = time.monotonic() + SECONDS, b""
        while end.encode() not in seen:
            assert time.monotonic() < until, seen
            self.write("\x03")
            while end.encode() not in seen and select.select([self.ours], [], [], 1)[0]:
                seen += os.read(self.ours, 4096)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    opened = Terminal(*arguments)
    try:
        yield opened
    finally:
        opened.process.kill()
        opened.process.wait()
        os.close(opened.ours)


def following(folder: Path, text: str, choice: int, **settings: object) -> str:
    """What follows a whole text, drawn as that choice."""
    checkpoint = load(folder)
    parameters = SamplingParameters(seed=3, temperature=0.8)
    pieces = generate(
        Decoder(checkpoint),
        checkpoint.tokenizer,
        text,
        choice=choice,
        parameters=parameters,
        **{"max_tokens": 12, **settings},  # type: ignore[arg-type]
    )
    return "".join(piece.text for piece in pieces)


OPTIONS = ["--seed", "3", "--max-tokens", "12"]


def test_each_prompt_goes_on_where_the_text_before_it_ended(checkpoint_folder: Path) -> None:
    """Also after nothing; and from a pipe there is no sign before a prompt."""
    first = following(checkpoint_folder, "the\n", 0)
    second = following(checkpoint_folder, f"the\n{first}cat", 1)
    third = following(checkpoint_folder, f"the\n{first}cat{second}", 2)
    command = [sys.executable, "-m", "unroll", "generate", str(checkpoint_folder), *OPTIONS, "--interactive"]
    done = subprocess.run(command, input=b"the\\n\ncat\n\n", capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.decode() == f"{first}\n{second}\n{third}\n"
    with terminal(str(checkpoint_folder), *OPTIONS) as opened:
        assert "Ctrl-D leaves" in opened.read_until("> ")
        opened.write("the\\n\r")
        shown = opened.read_until("\n> ")
        assert shown.endswith(f"{first}\n> ")
        opened.write("cat\r")
        assert opened.read_until("\n> ").endswith(f"{second}\n> ")
        opened.write("\x04")
        assert opened.process.wait(SECONDS) == 0


def test_ctrl_c_ends_a_text_and_the_next_prompt_goes_on(checkpoint_folder: Path) -> None:
    with terminal(str(checkpoint_folder), "--seed", "3", "--max-tokens", "100000000") as opened:
        opened.read_until("> ")
        opened.write("the\r")
        opened.read_until(following(checkpoint_folder, "the", 0)[:4].split("\n")[0])
        opened.write("\x03")
        opened.read_until("\n> ")
        opened.interrupt_until("\n> ")  # at the prompt, too, it leaves nothing
        opened.write("again\r")
        opened.read_until("again")
        opened.interrupt_until("\n> ")
        opened.write("\x04")
        assert opened.process.wait(SECONDS) == 0


def test_what_is_written_never_steers_the_terminal(tmp_path: Path) -> None:
    save(small_checkpoint(characters="\x1b[]\x07"), tmp_path / "model")
    with terminal(str(tmp_path / "model"), "--seed", "3", "--max-tokens", "200") as opened:
        opened.read_until("> ")
        opened.write("[\r")
        shown = opened.read_until("\n> ")
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert "␛" in shown
        assert "␇" in shown


def test_an_item_ends_and_the_next_prompt_begins_another(tmp_path: Path) -> None:
    plain = small_checkpoint()
    items = replace(plain, tokenizer=Tokenizer(plain.tokenizer.characters, frame=TextFrame(separator="e")))
    save(items, tmp_path / "model")
    expected = [following(tmp_path / "model", prompt, at, max_tokens=500) for at, prompt in enumerate(["a", "b"])]
    command = [sys.executable, "-m", "unroll", "generate", str(tmp_path / "model"), "--seed", "3", "--interactive"]
    done = subprocess.run(command, input=b"a\nb\n", capture_output=True, cwd=ROOT, check=True)
    assert done.stdout.decode() == "".join(f"{text}\n" for text in expected)
    assert "e" not in done.stdout.decode()


@pytest.mark.parametrize("flags", [["--json"], ["--n", "2"], ["--count", "3"], ["--beams", "2"], ["--regex", "a"]])
def test_what_a_conversation_lacks_is_refused(checkpoint_folder: Path, flags: list[str]) -> None:
    result = CliRunner().invoke(make_program(), ["generate", str(checkpoint_folder), "--interactive", *flags])
    assert isinstance(result.exception, ParameterError)
    assert str(result.exception).startswith(f"--interactive goes without {flags[0]};")


def test_a_prompt_that_is_no_text_loses_nothing(checkpoint_folder: Path) -> None:
    first = following(checkpoint_folder, "the", 0)
    second = following(checkpoint_folder, f"the{first}cat", 1)
    command = [sys.executable, "-m", "unroll", "generate", str(checkpoint_folder), *OPTIONS, "--interactive"]
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:surrogateescape"}
    done = subprocess.run(
        command, input=b"the\n\xff\ncat\n", capture_output=True, cwd=ROOT, check=True, env=environment
    )
    assert done.stdout.decode() == f"{first}\n{second}\n"
    assert b"note: " in done.stderr
