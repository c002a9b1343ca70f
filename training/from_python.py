"""`unroll.train`: a run that is asked for from Python, with the options of the verb by their names."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.command_line.console import TerminalConsole
from model.command_line.from_options import make
from model.command_line.options import options_of
from model.command_line.terminal import shell_word
from model.errors import ParameterError
from training.commands.shared import require
from training.planning.train_options import TrainOptions


def train(corpus: Sequence[str | Path], quiet: bool, chosen: dict[str, Any]) -> Path:
    """Train, and return the folder of the best checkpoint.

    corpus: files or folders. chosen: options of `unroll train` by the names of their fields.
    Raises ParameterError on an option there is not, CorpusError, and TrainingError when a run is lost; and
    KeyboardInterrupt where a signal has stopped it, when all is saved: who calls must not take it for a whole run.
    """
    started = time.monotonic()
    known = {option.name for option in options_of(TrainOptions)} - {"corpus", "resume", "preset", "processes"}
    if unknown := sorted(set(chosen) - known):
        raise ParameterError(unknown[0], f"There is no option {unknown[0]}; there are: {', '.join(sorted(known))}.")
    for name in ("out", "base"):
        if chosen.get(name) is not None:
            chosen[name] = Path(chosen[name])
    if "teachers" in chosen:
        several = chosen["teachers"]
        chosen["teachers"] = [Path(one) for one in ([several] if isinstance(several, (str, Path)) else several)]
    command = ("unroll", "train", *map(str, corpus))
    request = make(TrainOptions, {**chosen, "corpus": [str(path) for path in corpus]})
    require("torch")
    from dataclasses import replace

    from training.run import run

    with open(os.devnull, "w") as nowhere:
        console = TerminalConsole(file=nowhere) if quiet else TerminalConsole()
        finished = run(replace(request, command=command), console, started)
    if finished.stopped_early:
        again = f"unroll train --resume {shell_word(finished.folder)}"
        raise KeyboardInterrupt(f"The run was stopped before its end and is saved; `{again}` goes on with it.")
    return finished.folder / "best"
