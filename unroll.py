"""The program `unroll`: one verb each to train, serve, generate, evaluate and inspect a character language model."""

import importlib
import os
import signal
import sys
from types import FrameType
from typing import Any


def end_now(number: int, _frame: FrameType | None) -> None:
    """End as the signal by itself ends any process but the first, with the status a shell gives that."""
    os._exit(128 + number)


# A container's process 1 gets no signal it has no handler for: from before the first slow import until the server or a
# training run has its own, SIGTERM would be lost, and `docker stop` wait and kill. Ctrl-C would be an exception in the
# middle of an import, which not everyone there lets through.
if os.getpid() == 1:
    for _signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(_signal, end_now)

import typer  # noqa: E402
from rich.console import Console  # noqa: E402
from typer.core import TyperGroup  # noqa: E402

from model.errors import UnrollError  # noqa: E402

# A verb's module is imported when the verb is called or described, and imports what it needs when it runs:
# `unroll --help` and `unroll serve` never load torch.
VERBS = {
    "train": "training.commands.train:train",
    "serve": "service.cli:serve",
    "health": "service.health_cli:health",
    "generate": "model.cli:generate",
    "evaluate": "training.commands.evaluate:evaluate",
    "copied": "training.commands.copied:copied",
    "info": "model.cli:info",
}


def mount(name: str) -> Any:
    """The command of one verb."""
    module, function = VERBS[name].split(":")
    verb = typer.Typer(add_completion=False, rich_markup_mode="rich")
    verb.command(name)(getattr(importlib.import_module(module), function))
    return typer.main.get_command(verb)


class Verbs(TyperGroup):
    """The verbs, each mounted when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        return mount(cmd_name) if cmd_name in VERBS else None


program = typer.Typer(cls=Verbs, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")


@program.callback()
def unroll() -> None:
    """Train a character-level recurrent language model on any text, and stream text from it.

    Examples:

      unroll train book.txt --minutes 4 --out runs/book

      unroll generate runs/book/best --prompt "Once"

      unroll serve runs/book/best
    """


def main() -> None:
    """Run the program; an error of ours is a sentence on standard error and exit code 1, never a traceback."""
    try:
        program()
    except UnrollError as error:
        Console(stderr=True, highlight=False).print(f"unroll: {error}", markup=False, style="red", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
