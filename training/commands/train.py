"""The verb `unroll train`."""

import os
import sys
import time
from contextlib import ExitStack
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
from training.planning.run_folder import run_folder
from training.planning.train_options import MINUTES, TrainOptions

SAYING = 5.0  # seconds in which the first process says what all know; torchrun would end it once another has ended
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

      unroll train book.txt --processes 4

      zcat logs.gz | unroll train - --cell gru --epochs 3
    """
    started = time.monotonic()
    given = {name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"}  # type: ignore[union-attr]
    _check_together(options, given)
    require("torch")
    if options.resume is None:
        options = replace(with_preset(options, given), command=_command(options.corpus))
        if options.overrides.minutes is None and options.overrides.epochs is None:
            options = replace(options, overrides=replace(options.overrides, minutes=MINUTES))
    if options.processes > 1:
        _launch(options)
    else:
        _run(options, started)


def _launch(options: TrainOptions) -> None:
    """Start the processes of a run, having seen what of the options can be seen before."""
    from training.distributed.environment import is_started_by_torchrun
    from training.distributed.launch import launch
    from training.distributed.ranks import Ranks
    from training.loop.joint_start import check_readable
    from training.planning.plan import check_shares

    if is_started_by_torchrun():
        raise ParameterError("processes", "torchrun has started the processes already; leave out --processes.")
    if options.resume is None:
        check_readable(options.corpus, Ranks(count=options.processes))
        run_folder(options)
    if options.overrides.batch_size is not None:
        check_shares(options.overrides.batch_size, options.processes)
    launch(options.processes, sys.argv[1:])


def _run(options: TrainOptions, started: float) -> None:
    """Begin a run or go on with one, alone or with the processes that the environment names."""
    from training.distributed.agreement import Disagreement
    from training.distributed.environment import joined
    from training.loop.joint_start import begun_before
    from training.run import resume, run

    with joined() as ranks, ExitStack() as open_files:
        console = TerminalConsole()
        if not ranks.first:
            console = TerminalConsole(file=open_files.enter_context(open(os.devnull, "w")))
        try:
            out = options.resume or begun_before(options, ranks)
            if out is not None:
                resume(out, console, started, ranks)
            else:
                run(options, console, started, ranks)
        except Disagreement:
            if ranks.first:
                raise
            time.sleep(SAYING)
            os._exit(1)
    if not ranks.first:
        os._exit(0)  # PyTorch 2.13 aborts one process in some that end just after they have left the others


train = command_of(TrainOptions, _train)


def _check_together(options: TrainOptions, given: set[str]) -> None:
    """Raise ParameterError where something was chosen beside --resume, or a size beside --from."""
    others, sizes = given - {"resume", "processes"}, given & {one.name for one in fields(NetworkConfig)}
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
    return ("unroll", *(_without_folders(Path(word)) if Path(word).is_absolute() else word for word in words))


def _without_folders(path: Path) -> str:
    """The last part of a path, and the run's name before `best` or `last`, which all runs have."""
    return str(Path(path.parent.name, path.name)) if path.name in ("best", "last") else path.name
