"""The console on which every verb prints: tables, bars and sentences, and no text that steers the terminal."""

import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from model.command_line.terminal import for_terminal, never_fail


class TerminalConsole(Console):
    """A console on which all text is shown and nothing but Rich's own styles and bars steers."""

    def __init__(
        self,
        *,
        stderr: bool = False,
        file: IO[str] | None = None,
        width: int | None = None,
        force_terminal: bool | None = None,
    ) -> None:
        never_fail(file or (sys.stderr if stderr else sys.stdout))
        settings: dict[str, Any] = {"width": width, "force_terminal": force_terminal}
        super().__init__(stderr=stderr, file=file, highlight=False, markup=False, emoji=False, **settings)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is shown, so that what follows counts the columns it takes."""
        return super().render_str(for_terminal(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed, piece by piece."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=for_terminal(segment.text))

    def say(self, text: str, style: str = "") -> None:
        """A sentence: on a terminal broken between words, in a file or pipe on one line."""
        self.print(text, style=style, soft_wrap=not self.is_terminal)

    def rows(self, rows: Sequence[tuple[str, str]]) -> None:
        """A line for each name and value; on a terminal a long value goes on below itself, between words."""
        width = max((len(name) for name, _ in rows), default=0) + 2
        for name, value in rows:
            room = self.width - width if self.is_terminal else sys.maxsize
            for number, line in enumerate(Text(for_terminal(value)).wrap(self, max(20, room))):
                line.rstrip()
                self.print(Text(f"{'' if number else name:{width}}") + line, soft_wrap=True)

    def whole(self, line: str) -> None:
        """A line to copy from, with a command or a path, which is never broken."""
        self.print(line, soft_wrap=True)
