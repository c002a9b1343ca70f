"""How much one turn reads and draws: calls of about a millisecond, measured, so that nobody waits long for anybody."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

DECODE_SECONDS = 0.001  # a call that draws takes about this long: newcomers and cancellations wait no longer
MOST_STEPS = 64  # of one such call
PREFILL_SHARE = 0.5  # of a call that draws, for reading prompts beside it: text keeps two thirds of its pace
PREFILL_ALONE_SECONDS = 0.004  # for reading while nothing draws
MOST_PREFILLED = 32  # prompts that advance side by side
MOST_SCORED = 128  # the same of prompts that are scored while nothing draws: more rows go further in the same time
UNKNOWN_SECONDS = 0.001  # a step is taken to last this long before any was measured
WEIGHT = 0.25  # of the latest call in the running mean
OUTLIER = 4.0  # a call so many times longer than the mean was held up by something else and counts as this much


class UnreadPrompt(Protocol):
    """A row whose prompt is not read yet: ids left, and how many of them until it has to stop in between."""

    @property
    def unread(self) -> int: ...

    @property
    def until_mark(self) -> int: ...


AnyPrompt = TypeVar("AnyPrompt", bound=UnreadPrompt)


class Cost:
    """Seconds one step takes, by how many rows take part: a running mean of recent calls."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # by the bits of the number of rows

    def per_step(self, rows: int) -> float:
        """An estimate for so many rows; where none was measured it errs towards too much."""
        size = rows.bit_length()
        known = self._seconds.get(size)
        if known is not None:
            return known
        for smaller in range(size - 1, 0, -1):
            if smaller in self._seconds:
                return self._seconds[smaller] * 2.0 ** (size - smaller)
        return min(self._seconds.values(), default=UNKNOWN_SECONDS)

    def record(self, rows: int, steps: int, seconds: float) -> None:
        """Note how long a call took."""
        size, latest = rows.bit_length(), seconds / steps
        mean = self._seconds.get(size, latest)
        self._seconds[size] = mean + WEIGHT * (min(latest, OUTLIER * mean) - mean)


def decode_steps(rows: int, largest_left: int, cost: Cost) -> int:
    """Steps of the next call that draws, for rows of which none has more than `largest_left` ids to go."""
    affordable = int(DECODE_SECONDS / max(cost.per_step(rows), 1e-9))
    return max(1, min(affordable, MOST_STEPS, largest_left))


def prefill_seconds(rows: int, largest_left: int, cost: Cost) -> float:
    """Time to read in a turn in which so many rows draw."""
    if not rows:
        return PREFILL_ALONE_SECONDS
    return PREFILL_SHARE * decode_steps(rows, largest_left, cost) * cost.per_step(rows)


def prefill_chunk(
    prompts: Sequence[AnyPrompt], seconds: float, cost: Cost, most: int = MOST_PREFILLED
) -> tuple[list[AnyPrompt], int]:
    """Which prompts advance in the next call that reads, and by how many ids each, in about so many seconds.

    prompts: in the order they came. Of more than `most`, which may advance at once, one half are the oldest, so that
    everybody's turn comes, and the other half those who have least to read, so that no short prompt waits for a long
    one.
    """
    chosen = list(prompts)
    if len(chosen) > most:
        oldest, others = chosen[: most // 2], chosen[most // 2 :]
        chosen = oldest + sorted(others, key=lambda prompt: prompt.unread)[: most - len(oldest)]
    affordable = int(seconds / max(cost.per_step(len(chosen)), 1e-9))
    return chosen, max(1, min(affordable, *(prompt.until_mark for prompt in chosen)))
