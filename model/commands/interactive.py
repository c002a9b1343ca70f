"""`unroll generate --interactive`: prompt after prompt, each continued where the text before it ended."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from model.commands.common import note, write
from model.errors import UnrollError

SIGN = "> "
HELP = "Enter continues the text after what you type, which may be nothing; Ctrl-C ends a text, Ctrl-D leaves."


class Conversation:
    """One text that a person and a model write in turns.

    settings: those of `model.generate.generate`: max_tokens, parameters and stop. Text j draws as choice j of its seed.
    label: what stands before each text that begins.
    """

    def __init__(self, decoder: Any, tokenizer: Any, settings: Mapping[str, Any], label: str = "") -> None:
        self._decoder, self._tokenizer, self._settings, self._label = decoder, tokenizer, settings, label
        self._rows = decoder.rows(1)
        self._last: int | None = None  # the id that is to be read next; None where a text begins
        self._used: set[int] = set()  # ids of the text so far
        self._choice = 0
        self.stopping = False
        """Whether the text is to end after its next character."""
        self.asking = False
        """Whether a prompt is waited for."""

    def continued(self, prompt: str) -> Iterator[str]:
        """Pieces of the text that follows a prompt, until it ends or `stopping` is set.

        Raises TokenizerError on a prompt that is not Unicode, and is where it was then.
        """
        import numpy as np

        from model.sampling.sampler import RowSampling
        from model.text.text_stream import TextStream

        self._read(prompt)
        used = np.array(sorted(self._used), np.int32)
        row = RowSampling(self._settings["parameters"], self._decoder.ids, used, self._choice)
        self._choice += 1
        self._rows.set(0, row, self._last)
        stream = TextStream(self._tokenizer, self._settings["stop"])
        for _ in range(self._settings["max_tokens"]):
            self._last = int(self._rows.draw([0], 1).ids[0, 0])
            self._used.add(self._last)
            yield stream.feed([self._last])
            if stream.stopped is not None and stream.stop_reason is None:
                self._last = None  # an item has ended
            if self.stopping or stream.stopped is not None:
                break
        yield stream.flush()

    def _read(self, prompt: str) -> None:
        """Read a prompt, all but its last id."""
        import numpy as np

        from model.text.prompt import Prompt

        if self._last is None:
            asked = Prompt(self._tokenizer, self._decoder.ids, self._label + prompt)
            self._rows.state[0] = 0
            ids, self._used = asked.ids, set(asked.penalised.tolist())
        else:
            own = self._tokenizer.encode(prompt).astype(np.int32)
            ids = np.concatenate([np.array([self._last], np.int32), own])
            self._used.update(own.tolist())
        self._rows.read([0], ids[None, :-1])
        self._last = int(ids[-1])


def converse(conversation: Conversation, first: str, raw: bool) -> None:
    """Read prompts from standard input until it ends, and write what follows each. first: a prompt before all others.

    raw: escapes such as \\n in a prompt are letters.
    """
    from model.text.escapes import unescaped

    terminal = sys.stdin.isatty()
    if terminal:
        import readline  # noqa: F401 -- input() then lets a line be edited

        note(HELP)
    with _interrupts(conversation):
        if first:
            _answer(conversation, first)
        while True:
            try:
                line = _asked(conversation, SIGN if terminal else "")
            except EOFError:
                write("\n" if terminal else "")
                return
            except KeyboardInterrupt:
                write("\n")
                continue
            _answer(conversation, line if raw else unescaped(line))


def _asked(conversation: Conversation, sign: str) -> str:
    """The next prompt. Raises EOFError at the end of the input and KeyboardInterrupt on Ctrl-C."""
    conversation.asking = True
    try:
        line = input(sign)
        conversation.stopping = False
    finally:
        conversation.asking = False
    return line


def _answer(conversation: Conversation, prompt: str) -> None:
    """Write what follows a prompt; Ctrl-C ends it."""
    try:
        for piece in conversation.continued(prompt):
            write(piece)
        write("\n")
    except UnrollError as error:
        note(str(error))


@contextmanager
def _interrupts(conversation: Conversation) -> Iterator[None]:
    """Let Ctrl-C end a prompt, or a text between two characters, for a `with` block; what has been read stays.

    One handler for both, so that there is no moment between them at which Ctrl-C would end the program.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        if conversation.asking:
            raise KeyboardInterrupt
        conversation.stopping = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
