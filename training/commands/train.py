"""The verb `unroll train`."""

import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import typer

from model.command_line.console import TerminalConsole
from model.command_line.from_options import command_of
from model.command_line.options import flag_of, former_flags, options_of
from model.config import NetworkConfig
from model.errors import ParameterError
from training.commands.shared import require
from training.planning.presets import with_preset
from training.planning.train_options import MINUTES, TrainOptions

FORMER_FLAGS = former_flags(TrainOptions)
"""The flag of today for each former one, still understood and shown nowhere."""


def _train(context: typer.Context, options: TrainOptions) -> None:
    """Train a character-level language model on any text.

    What is not chosen is planned from the corpus and the budget; the plan is printed first. Ctrl-C saves and stops;
    --resume goes on from there as if nothing had happened. Without CORPUS it trains on the English reference prose
    every Python carries.

    Examples:

      unroll train

      unroll train book.txt --minutes 4 --out runs/book

      unroll train --resume runs/book

      unroll train letters/ diary.txt.gz --encoding latin-1 --from runs/book/best

      zcat logs.gz | unroll train - --cell gru --epochs 3
    """
    started = time.monotonic()
    given = {name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"}  # type: ignore[union-attr]
    _check_together(options, given)
    require("torch")
    from training.run import resume, run

    if options.resume is not None:
        resume(options.resume, TerminalConsole(), started)
        return
    options = with_preset(options, given)
    if options.overrides.minutes is None and options.overrides.epochs is None:
        options = replace(options, overrides=replace(options.overrides, minutes=MINUTES))
    run(replace(options, command=_command(options.corpus)), TerminalConsole(), started)


train = command_of(TrainOptions, _train)


def _check_together(options: TrainOptions, given: set[str]) -> None:
    """Raise ParameterError where something was chosen beside --resume, or a size beside --from."""
    others, sizes = given - {"resume"}, given & {one.name for one in fields(NetworkConfig)}
    if options.resume is not None and others:
        raise ParameterError(
            "resume", f"--resume goes on with the run's own plan and corpus; leave out {_flags(others)}."
        )
    if options.base is not None and sizes:
        raise ParameterError(
            "from", f"--from trains a network of the checkpoint's sizes on; leave out {_flags(sizes)}."
        )


def _flags(names: set[str]) -> str:
    """Options as they are written on a command line, in the order of the alphabet."""
    return ", ".join(sorted(flag_of(one) for one in options_of(TrainOptions) if one.name in names))


def _command(corpus: tuple[str, ...]) -> tuple[str, ...]:
    """The command line for the card, without the user's folders."""
    named = {word: Path(word).resolve().name for word in corpus if word != "-"}
    words = [named.get(word, word) for word in sys.argv[1:]]
    return ("unroll", *(Path(word).name if Path(word).is_absolute() else word for word in words))
