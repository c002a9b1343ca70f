"""`unroll generate --count`: a list of items on standard output or in a file, and what there is to say of it."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from model.bulk.checking import Check, ConstraintCheck
from model.bulk.drawing import Item, ItemRequest
from model.bulk.formats import Format, as_line, header, written
from model.bulk.generate import check_request, drawn_items
from model.bulk.list_file import ListFile
from model.bulk.selection import IN_VAIN, CorpusItems, Selection
from model.command_line.console import TerminalConsole
from model.command_line.terminal import counted, drop_output, for_terminal, shell_word
from model.decoding.rows import AnyDecoder
from model.errors import ParameterError
from model.text.tokenizer import Tokenizer

SHOWN_EVERY = 0.1  # seconds

Draw = Callable[[int, int | None], AbstractContextManager[Iterator[Item]]]
"""Draws the items from a number on, up to another or without an end; see `drawn_items`."""


@dataclass(frozen=True, kw_only=True)
class ListRequest:
    """A list that is asked for.

    count: how many items. unique, novel_to: see `Selection`; a file of items. out: where to, None for standard output.
    lead: what stands before the continuation in every item, the prompt's last line or nothing. label: what stands
    before an item of the corpus and not in the list. check: a command.
    threads: None for one a core. resume: go on with the list that was begun in `out`.
    """

    count: int
    unique: bool = False
    novel_to: Path | None = None
    out: Path | None = None
    form: Format = "text"
    lead: str = ""
    label: str = ""
    check: str | None = None
    threads: int | None = None
    resume: bool = False


class PaceColumn(ProgressColumn):
    """How many items come a second."""

    def render(self, task: Task) -> Text:
        """Draw it anew."""
        return Text("" if task.speed is None else f"{task.speed:,.0f} items/s")


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, for a `with` block; the second time it ends the program at once.

    An exception in the middle of an item would leave a file and its counts that do not agree.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def press(number: int, _frame: object) -> None:
        pressed.set()
        signal.signal(number, signal.SIG_DFL)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


class GaveUp(Exception):
    """There is hardly an item left that the list could keep."""


class ListWriter:
    """Draws a list and writes it.

    identity: the model, and whatever else the texts depend on beside the request for items, as JSON values.
    draw: draws the items somewhere else than on this machine.
    Raises ParameterError on what cannot be done, before there is a file.
    """

    def __init__(
        self,
        decoder: AnyDecoder,
        tokenizer: Tokenizer,
        asked: ListRequest,
        items: ItemRequest,
        identity: dict[str, Any],
        draw: Draw | None = None,
    ) -> None:
        check_request(decoder, tokenizer, items)
        if asked.resume and asked.out is None:
            raise ParameterError("resume", "--resume goes on with a file; name it with --out.")
        self._decoder, self._tokenizer, self._asked, self._items = decoder, tokenizer, asked, items
        self._draw = draw or self._drawn_here
        self._console = TerminalConsole(stderr=True)
        self._stdout = sys.stdout  # while others draw, it is where they may print
        separator = tokenizer.frame.separator or "\n"
        corpus = None if asked.novel_to is None else CorpusItems(asked.novel_to, separator, asked.label)
        self._selection = Selection(asked.unique, corpus)
        self._file: ListFile | None = None
        if asked.out is not None:
            self._file = ListFile(asked.out, asked.form, self._settings(identity), asked.resume)
        self._check = None if asked.check is None else Check(asked.check)
        self._match = None
        if items.constraint is not None:
            self._match = ConstraintCheck(items.constraint, tokenizer, decoder.ids)
        if self._file is not None and self._file.counts is not None:
            self._selection.resume(self._file.counts, self._before())

    def write(self) -> None:
        """Draw and write until there are enough items, or the reader of standard output has gone.

        Raises GaveUp where more draws are no use, and KeyboardInterrupt; what was written stays, and can be resumed.
        """
        counts, began = self._selection.counts, time.monotonic()
        kept, complete = counts.kept, False
        filtered = self._selection.unique or self._selection.corpus is not None
        end = None if filtered else max(counts.draws, self._asked.count)
        try:
            with ExitStack() as stack:
                items = stack.enter_context(self._draw(counts.draws, end))
                bar = stack.enter_context(self._bar())
                self._write_all(items, bar, stack.enter_context(interruption()))
            complete = True
        except BrokenPipeError:
            drop_output()
        finally:
            self._close(complete)
            self._report(counts.kept - kept, time.monotonic() - began)

    def _drawn_here(self, start: int, end: int | None) -> AbstractContextManager[Iterator[Item]]:
        threads = self._asked.threads
        return drawn_items(self._decoder, self._tokenizer, self._items, start=start, end=end, threads=threads)

    def _write_all(self, items: Iterator[Item], bar: Progress, interrupted: Callable[[], bool]) -> None:
        form, lead, count = self._asked.form, self._asked.lead, self._asked.count
        stdout: IO[bytes] | None = None if self._file is not None else self._stdout.buffer
        terminal = stdout is not None and self._stdout.isatty()
        task, shown = bar.add_task("", total=count, completed=self._selection.counts.kept), 0.0
        if stdout is not None:
            stdout.write(header(form))
        while self._selection.counts.kept < count:
            if interrupted():
                raise KeyboardInterrupt
            item = next(items)
            drawn, item = item.text, item._replace(text=lead + item.text)
            line = as_line(item.text)
            if self._selection.keep(line, item.finish_reason == "length"):
                entry = written(item, form)
                if self._file is not None:
                    self._file.write(entry)
                elif stdout is not None:
                    stdout.write(for_terminal(entry.decode()).encode() if terminal else entry)
                if self._check is not None:
                    self._check.send(line)
                if self._match is not None:
                    self._match.send(drawn)
            elif self._selection.given_up:
                raise GaveUp
            if time.monotonic() - shown >= SHOWN_EVERY:
                shown = time.monotonic()
                bar.update(task, completed=self._selection.counts.kept)
                if self._file is not None:
                    self._file.save_now_and_then(self._selection.counts.to_json())
                elif stdout is not None:
                    stdout.flush()
        bar.update(task, completed=count)
        if stdout is not None:
            stdout.flush()

    def _close(self, complete: bool) -> None:
        if self._file is None:
            return
        try:
            if not complete:
                self._file.save(self._selection.counts.to_json())
        finally:
            self._file.close(complete)

    def _report(self, kept: int, seconds: float) -> None:
        """Say on standard error what the list is like."""
        said = [f"{counted(self._selection.counts.kept, 'item')}, {kept / max(seconds, 1e-9):,.0f} a second"]
        said += self._selection.report()
        if self._check is not None:
            said.append(self._check.report())
        if self._match is not None:
            said.append(self._match.report())
        self._console.say("; ".join(said) + ".")

    @property
    def gave_up(self) -> str:
        """Why the list ended early, in a sentence."""
        counts = self._selection.counts
        asked = f"{counted(self._asked.count, 'item')} {'was' if self._asked.count == 1 else 'were'}"
        return (
            f"{counts.kept:,} of {asked} found in {counts.draws:,} tries, none in the "
            f"last {IN_VAIN:,}; ask for fewer, or raise --temperature."
        )

    @property
    def interrupted(self) -> str:
        """What there is after Ctrl-C, in a sentence."""
        kept, out = counted(self._selection.counts.kept, "item"), self._asked.out
        if out is None:
            return f"Stopped after {kept}."
        return f"Stopped after {kept}, which {shell_word(out)} keeps; the same command with --resume goes on."

    def _before(self) -> Iterator[str]:
        """The items of the list that is resumed; the check sees them again."""
        assert self._file is not None
        for line in self._file.lines():
            if self._check is not None:
                self._check.send(line)
            yield line

    def _bar(self) -> Progress:
        """A bar where standard error is a terminal on which the items do not come, too."""
        shown = self._console.is_terminal and (self._file is not None or not self._stdout.isatty())
        return Progress(
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} items"),
            BarColumn(bar_width=None),
            PaceColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not shown,
            expand=True,
        )

    def _settings(self, identity: dict[str, Any]) -> dict[str, Any]:
        """All that the list depends on, but for how long it is."""
        parameters = asdict(self._items.parameters)
        parameters["logit_bias"] = {str(token): bias for token, bias in parameters["logit_bias"].items()}
        asked = self._asked
        return {
            **identity,
            **parameters,
            "prompt": self._items.prompt,
            "max_tokens": self._items.max_tokens,
            "stop": list(self._items.stop),
            "lead": asked.lead,
            "format": asked.form,
            "unique": asked.unique,
            "novel_to": None if asked.novel_to is None else str(asked.novel_to),
        }
