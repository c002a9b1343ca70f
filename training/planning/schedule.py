"""How far a run is in its budget, and the learning rate there: a warm-up, then a fall to zero."""

import math
from dataclasses import dataclass
from typing import Literal

Decay = Literal["cosine", "linear", "constant"]

WARM_UP_SHARE = 0.05  # of a run that a warm-up may take, however many steps it was given


@dataclass(frozen=True)
class Budget:
    """What a run may use: ids read, seconds, or both, whichever is used up first.

    A budget of ids makes a run repeatable to the bit; one of seconds ends on time on any machine.
    """

    ids: float | None = None
    seconds: float | None = None

    def progress(self, read: int, elapsed: float) -> float:
        """The used share of the budget, 1 or more when it is used up."""
        of_ids = read / self.ids if self.ids is not None else 0.0
        of_time = elapsed / self.seconds if self.seconds is not None else 0.0
        return max(of_ids, of_time)

    def seconds_left(self, read: int, elapsed: float, ids_per_second: float) -> float | None:
        """Until the budget is used up at that speed; None where nothing is known of it yet."""
        left = [] if self.seconds is None else [self.seconds - elapsed]
        left += [(self.ids - read) / ids_per_second] if self.ids is not None and ids_per_second > 0 else []
        return max(0.0, min(left)) if left else None


@dataclass(frozen=True)
class Schedule:
    """The learning rate over a run.

    peak: the highest rate. warmup_steps: to it, linear. decay: how it falls from there to zero: along half a cosine
    (Loshchilov & Hutter 2017), a straight line, or not at all.
    """

    peak: float
    warmup_steps: int
    decay: Decay

    def rate(self, step: int, progress: float) -> float:
        """The rate of a step, counted from 0, at that share of the budget."""
        warm = (
            min(1.0, (step + 1) / self.warmup_steps, WARM_UP_SHARE + progress / WARM_UP_SHARE)
            if self.warmup_steps
            else 1.0
        )
        left = 1 - min(progress, 1.0)
        falls = {"cosine": 0.5 * (1 - math.cos(math.pi * left)), "linear": left, "constant": 1.0}
        return self.peak * warm * falls[self.decay]
