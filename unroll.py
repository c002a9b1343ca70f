"""The program `unroll`, a verb each to train, serve, generate, score and evaluate; and the same from Python.

From Python: `unroll.load` gives a model that generates, streams and scores, `unroll.train` makes one (docs/python.md).
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C in the middle of an import is no traceback

import importlib
import importlib.util
import os
import re
import sys
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from typer import Typer

    from model.errors import UnrollError as UnrollError
    from model.language_model import LanguageModel

    program: Typer

# A verb's module is imported when the verb is called or described, and imports what it needs when it runs:
# `unroll --help` and `unroll serve` never load torch.
VERBS = {
    "train": "training.commands.train:train",
    "serve": "service.cli:serve",
    "health": "service.health_cli:health",
    "generate": "model.commands.generate:generate",
    "score": "model.commands.score:score",
    "evaluate": "training.commands.evaluate:evaluate",
    "compare": "training.commands.compare:compare",
    "copied": "training.commands.copied:copied",
    "info": "model.commands.info:info",
}
PACKAGES = sorted({module.partition(".")[0] for module in VERBS.values()})
HOME = os.path.dirname(os.path.abspath(__file__))
"""The folder this file lies in; our packages lie beside it."""


def leave_current_folder() -> None:
    """Take the folder that `python -m` puts first on Python's path off it: a stranger's model.py may lie there."""
    if sys.flags.safe_path:
        return
    first = sys.path[0] or os.curdir
    try:
        if os.path.samefile(first, os.curdir) and not os.path.samefile(first, HOME):
            del sys.path[0]
    except OSError:  # the folder has been removed, and holds nothing
        return


def check_packages() -> None:
    """See that Python finds our packages, not others of their names.

    Raises ImportError with the file that hides one of ours.
    """
    for package in PACKAGES:
        ours, found = os.path.join(HOME, package), place_of(package)
        if found is not None and os.path.realpath(os.path.dirname(found)) != os.path.realpath(ours):
            raise ImportError(
                f"{found} hides Unroll's own package `{package}`, which lies in {ours}; rename the first, or take its "
                "folder off Python's path (PYTHONPATH, or the folder Python is started in).",
                name=package,
                path=found,
            )


def place_of(package: str) -> str | None:
    """The file that importing a package runs, or its folder where no file is run; None where neither is found."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module that somebody made without a file
        return None
    if spec is None:
        return None
    return spec.origin or next(iter(spec.submodule_search_locations or ()), None)


def hear_signals() -> None:
    """Let SIGTERM and SIGINT end this process while it starts, where it is the first of its container.

    Process 1 gets no signal it has no handler for: until the server or a training run has its own, SIGTERM would be
    lost, and `docker stop` would wait and kill. Ctrl-C would be an exception in the middle of an import, which not
    everyone there lets through. A server that starts is ended by SIGQUIT, too, and by none of the signals that tell a
    running one something, which may come early.
    """
    if sys.argv[1:2] == ["serve"]:
        signal.signal(signal.SIGQUIT, end_now)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end_now)


def end_now(number: int, _frame: FrameType | None) -> None:
    """End as the signal by itself ends any process but the first, with the status a shell gives that."""
    os._exit(128 + number)


@cache
def make_program() -> "Typer":
    """The program with its options and its verbs, for typer to run; what is slow to import is imported here."""
    import typer

    from model.command_line.help_page import WIDTH, HelpPage, ProgramHelpPage

    def mount(name: str) -> Any:
        """The command of one verb."""
        path, function = VERBS[name].split(":")
        module = importlib.import_module(path)
        former = getattr(module, "FORMER_FLAGS", {})  # names of flags that are still understood and shown nowhere
        verb = typer.Typer(add_completion=False, rich_markup_mode=None)
        settings = {"token_normalize_func": lambda word: former.get(word, word), "max_content_width": WIDTH}
        verb.command(name, cls=HelpPage, context_settings=settings)(getattr(module, function))
        return typer.main.get_command(verb)

    class Verbs(ProgramHelpPage):
        """The verbs, each mounted when it is asked for."""

        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
            return list(VERBS)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
            return mount(cmd_name) if cmd_name in VERBS else None

        def invoke(self, ctx: Any) -> Any:
            """Run a verb; what its command line has wrong is shown and not obeyed by the terminal."""
            try:
                return super().invoke(ctx)
            except Exception as error:
                from model.command_line.usage_errors import put_right

                put_right(error, list(VERBS), as_typed)
                raise

    def show_version(wanted: bool) -> None:
        """Print the version and end."""
        if wanted:
            from importlib.metadata import version

            typer.echo(f"unroll {version('unroll')}")
            raise typer.Exit

    made = typer.Typer(
        cls=Verbs,
        no_args_is_help=True,
        rich_markup_mode=None,
        # the verbs take the names over
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
    )

    @made.callback()
    def unroll(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        """Train a character-level recurrent language model on any text, and stream text from it.

        Examples:

          unroll train book.txt --minutes 4 --out runs/book

          unroll generate runs/book/best --prompt "Once"

          unroll serve runs/book/best
        """

    return made


def load(
    path: "str | Path | None" = None,
    *,
    quantization: Literal["int8", "fp32"] = "int8",
    threads: int | None = None,
    max_model_bytes: int | None = None,
) -> "LanguageModel":
    """The model in a checkpoint folder or in a run's; without a path, the bundled one.

    threads: those that generate and score in bulk; as many as processors by default.
    max_model_bytes: memory that loading may take at most, 1 GiB by default; more is refused before it is made.
    Raises model.errors.CheckpointError where it cannot be used.
    """
    from model.language_model import load

    limit = {} if max_model_bytes is None else {"max_model_bytes": max_model_bytes}
    return load(path, quantization=quantization, threads=threads, **limit)


def train(
    *corpus: "str | Path",
    minutes: float | None = None,
    out: "str | Path | None" = None,
    quiet: bool = False,
    **options: Any,
) -> "LanguageModel":
    """Train on files or folders, as `unroll train` does, and return the best model.

    minutes: the budget, 5 where there is no `epochs` either. out: the run's folder, a new one below runs/ by default.
    quiet: print nothing. options: those of `unroll train` by name, such as layers=2, hidden=256, epochs=3, seed=1.
    Raises UnrollError with a sentence where it cannot be done, and KeyboardInterrupt where Ctrl-C or SIGTERM has
    stopped the run, when that is saved.
    """
    from model.language_model import load
    from training.from_python import train

    if minutes is None and "epochs" not in options:
        minutes = 5.0
    return load(train(corpus, quiet, {"minutes": minutes, "out": out, **options}))


def __getattr__(name: str) -> Any:
    """Give `unroll.program` and `unroll.UnrollError` to those who ask for them.

    The first is slow to make, and `main` has signals to hear before it imports anything.
    """
    if name == "UnrollError":
        from model.errors import UnrollError

        return UnrollError
    if name != "program":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return make_program()


def main() -> None:
    """Run the program; an error of ours is a sentence on standard error and exit code 1, never a traceback.

    So is an error of the system about a path, and a disk that is full.
    """
    hear_signals()
    from model.commands.common import refuse, refuse_unusable
    from model.errors import UnrollError

    try:
        program = make_program()
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        program(prog_name="unroll")
    except UnrollError as error:
        refuse(as_typed(str(error)))
    except OSError as error:
        refuse_unusable(error)


def as_typed(sentence: str) -> str:
    """A sentence that names flags as they stand on the command line, where that has former names of theirs."""
    modules = [sys.modules.get(place.partition(":")[0]) for place in VERBS.values()]
    former = {name: now for module in modules for name, now in getattr(module, "FORMER_FLAGS", {}).items()}
    typed = {word.partition("=")[0].removeprefix("--") for word in sys.argv[1:] if word.startswith("--")}
    for name in typed & set(former):
        sentence = re.sub(rf"--{former[name]}(?![\w-])", f"--{name}", sentence)
    return sentence


if __name__ == "__main__":
    leave_current_folder()
    try:
        check_packages()
    except ImportError as error:
        sys.exit(f"unroll: {error}")
    main()
else:
    check_packages()
