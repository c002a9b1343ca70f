"""Signals that end a run after the step in hand."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from training.loop.trainer import Trainer


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run after the step in hand, saved; a second one ends it at once."""

    def stop(number: int, _frame: FrameType | None) -> None:
        trainer.stop = True
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
