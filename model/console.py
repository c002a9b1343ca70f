"""The console on which every verb prints: tables, bars and sentences, and no text that steers the terminal."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from model.terminal import for_terminal, never_fail


class TerminalConsole(Console):
    """A console on which all text is shown and nothing but Rich's own styles and bars steers."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        never_fail(sys.stderr if stderr else sys.stdout)
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text as it is shown, so that what follows counts the columns it takes."""
        return super().render_str(for_terminal(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed, piece by piece."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=for_terminal(segment.text))
