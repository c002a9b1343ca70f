"""How far a run is in its budget, and the learning rate there: warm-up, then a cosine to zero."""

import math
from dataclasses import dataclass

WARM_UP = 50  # steps to the full rate, or a twentieth of the run where that is more


@dataclass(frozen=True)
class Budget:
    """What a run may use: steps, seconds, or both, whichever is used up first.

    A budget of steps makes a run repeatable to the bit; one of seconds ends on time on any machine.
    """

    steps: int | None = None
    seconds: float | None = None

    def progress(self, step: int, elapsed: float) -> float:
        """The used share of the budget, 1 or more when it is used up."""
        of_steps = step / self.steps if self.steps is not None else 0.0
        of_time = elapsed / self.seconds if self.seconds is not None else 0.0
        return max(of_steps, of_time)


def rate(peak: float, step: int, progress: float) -> float:
    """The learning rate of a step: linear warm-up to `peak`, cosine to zero (Loshchilov & Hutter 2017)."""
    warm = min(1.0, (step + 1) / WARM_UP, 0.05 + progress / 0.05)
    return peak * warm * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
