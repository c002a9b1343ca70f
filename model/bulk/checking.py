"""What share of a list is valid: by a command that reads items and writes the valid ones, or by their constraint."""

import subprocess
from contextlib import suppress
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from model.command_line.terminal import percent
from model.sampling.transitions import AnyConstraint
from model.text.tokenizer import Tokenizer

MOST_WALKED = 1_000  # items that are held against the constraint again: each takes some hundred steps of Python
NONE_FOUND = 1  # grep's exit code where no line is valid


class Check:
    """Runs a command of the shell beside the drawing; items go in as they are kept, and its lines are counted."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._sent = self._valid = 0
        self._process = subprocess.Popen(  # Ctrl-C is for us: the command ends when it has read all
            ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._counter = Thread(target=self._count, daemon=True)
        self._counter.start()

    def send(self, line: str) -> None:
        """Let the command judge an item."""
        self._sent += 1
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; its exit code says whether as it should
            self._process.stdin.write(f"{line}\n".encode())

    def report(self) -> str:
        """What the command found, once all items are sent."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._counter.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        code = self._process.wait()
        if code > NONE_FOUND or code < 0:
            return f"the check `{self._command}` failed with exit code {code}"
        nothing = " (it wrote none; it has to write those that are valid)" if self._sent and not self._valid else ""
        return f"{percent(self._valid / max(1, self._sent))} valid by `{self._command}`{nothing}"

    def _count(self) -> None:
        assert self._process.stdout is not None
        for _ in self._process.stdout:
            self._valid += 1


class ConstraintCheck:
    """Holds items against the constraint they were drawn with, the first ones of a list; ids: of the columns (S,)."""

    def __init__(self, constraint: AnyConstraint, tokenizer: Tokenizer, ids: NDArray[np.int64]) -> None:
        self._constraint, self._tokenizer = constraint, tokenizer
        self._column = {int(token): column for column, token in enumerate(ids)}
        self._walked = self._valid = 0

    def send(self, text: str) -> None:
        """Judge an item, without what stands before it."""
        if self._walked == MOST_WALKED:
            return
        self._walked += 1
        columns = [self._column[token] for token in self._tokenizer.encode(text).tolist()]
        walk = self._constraint.walk(len(columns) + MOST_WALKED)
        self._valid += all(walk.take(column) for column in columns) and walk.free

    def report(self) -> str:
        """What share matches."""
        which = f" of the first {MOST_WALKED:,}" if self._walked == MOST_WALKED else ""
        return f"{percent(self._valid / max(1, self._walked))}{which} match the constraint"
