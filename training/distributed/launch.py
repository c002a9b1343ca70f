"""Starts the processes of a run on one machine, with torchrun's launcher."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from model.errors import TrainingError
from training.row_threads import available_cores

PROGRAM = Path(__file__).parents[2] / "unroll.py"
FLAG = "--processes"
ENDING = 300  # seconds for processes to save their results after a signal


def launch(processes: int, words: Sequence[str]) -> None:
    """Run the program in several processes, and wait until all have ended.

    words: its command line; all processes get it without the option for the number of processes. A signal is passed
    on to each of them. Raises TrainingError if one was killed, and SystemExit if one has reported why it ended.
    """
    logging.disable(logging.CRITICAL)  # the processes print their own messages
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=uuid.uuid4().hex,
        max_restarts=0,
        shutdown_timeout=ENDING,
    )
    try:
        elastic_launch(config, sys.executable)("-u", str(PROGRAM), *without_processes(words))
    except SignalException:
        return
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            sys.exit(failure.exitcode)
        raise TrainingError(
            f"Rank {rank} (process {failure.pid}) was killed by {signal.Signals(-failure.exitcode).name}, and the "
            "others have ended, too."
        ) from error


def without_processes(words: Sequence[str]) -> list[str]:
    """A command line without the option for the number of processes."""
    kept: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*kept, word, *words]
        if word == FLAG:
            words = words[1:]
        elif not word.startswith(f"{FLAG}="):
            kept.append(word)
    return kept
