"""Signals that end a run after the step in hand."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from training.distributed.ranks import RankLost
from training.loop.trainer import Trainer


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run after the step in hand, saved; a second one ends it at once.

    A process that has lost the others of its run hears neither any more: what started them ends it soon by a signal,
    and it has yet to say what is saved and how to go on.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        trainer.stop = True
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    lost = False
    try:
        yield
    except RankLost:
        lost = True
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if lost else handler)
