"""How much one turn prefills and decodes: calls take about a millisecond, as measured, so that no text waits long."""

from collections.abc import Sequence, Set
from typing import Generic, Protocol, TypeVar

DECODE_SECONDS = 0.001  # of processor time for a decode call; new and cancelled requests wait no longer
MOST_STEPS = 64  # of one decode call
PREFILL_SHARE = 0.5  # time for prefill beside a decode call, as a share of it: texts keep two thirds of their speed
PREFILL_ALONE_SECONDS = 0.004  # of a prefill call while nothing is decoded
MOST_PREFILLED = 32  # prompts that advance side by side
LONG_PROMPT = 128  # ids left: of such long prompts, the oldest is read alone in some calls
ALONE_EVERY = 3  # calls
MOST_SCORED = 128  # as MOST_PREFILLED, for scored prompts while nothing is decoded: more rows are more efficient
MOST_APART = 16  # as MOST_PREFILLED, for prompts that report more than scores, which takes memory
UNKNOWN_SECONDS = 0.001  # assumed for a step before the first measurement
WEIGHT = 0.25  # of the latest call in the running mean
CROWD_SECONDS = 0.001  # between two pieces of one caller's texts while others have texts; see `spacing`
PIECE_SECONDS = 1e-4  # between two pieces of a text, for each text that is drawn
OUTLIER = 4.0  # a call that took more than this many times the mean was interrupted and counts as this many


class UnreadPrompt(Protocol):
    """A prompt that is not read yet: ids left to read, and ids until the next mark, at which its state is stored."""

    @property
    def unread(self) -> int: ...

    @property
    def until_mark(self) -> int: ...


AnyPrompt = TypeVar("AnyPrompt", bound=UnreadPrompt)


class Cost:
    """The seconds of one step for a number of rows: a running mean of recent calls."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # by the bit length of the number of rows

    def per_step(self, rows: int) -> float:
        """An estimate for this many rows; it is rather too high if none was measured."""
        size = rows.bit_length()
        known = self._seconds.get(size)
        if known is not None:
            return known
        for smaller in range(size - 1, 0, -1):
            if smaller in self._seconds:
                return self._seconds[smaller] * 2.0 ** (size - smaller)
        return min(self._seconds.values(), default=UNKNOWN_SECONDS)

    def record(self, rows: int, steps: int, seconds: float) -> None:
        """Record the duration of a call."""
        size, latest = rows.bit_length(), seconds / steps
        mean = self._seconds.get(size, latest)
        self._seconds[size] = mean + WEIGHT * (min(latest, OUTLIER * mean) - mean)


def decode_steps(rows: int, largest_left: int, cost: Cost) -> int:
    """The steps of the next decode call, for rows with at most `largest_left` ids to draw."""
    affordable = int(DECODE_SECONDS / max(cost.per_step(rows), 1e-9))
    return max(1, min(affordable, MOST_STEPS, largest_left))


def spacing(crowd: int, rows: int) -> float:
    """The seconds between two pieces of a text, if this many texts are drawn together.

    crowd: the number of its caller's texts in slots while others have texts.

    The event loop needs more time to deliver, encode and send a piece than a thread needs to draw a character, and
    the loop goes before the threads that draw. So with many texts a piece has several characters, each in an event of
    its own if that is requested; and the pieces of one caller beside others' texts take a tenth of a processor.
    """
    return max(crowd * CROWD_SECONDS, rows * PIECE_SECONDS)


def prefill_seconds(rows: int, largest_left: int, cost: Cost) -> float:
    """The time for prefill in a turn that decodes this many rows."""
    if not rows:
        return PREFILL_ALONE_SECONDS
    return PREFILL_SHARE * decode_steps(rows, largest_left, cost) * cost.per_step(rows)


def prefill_chunk(
    prompts: Sequence[AnyPrompt], seconds: float, cost: Cost, most: int = MOST_PREFILLED
) -> tuple[list[AnyPrompt], int]:
    """The prompts that advance in the next prefill call of about `seconds`, and the number of ids of each.

    prompts: in the order they came. At most `most` advance at once: half of them are the oldest, so that every prompt
    advances in the end, and half are those with the least left, so that no short prompt waits for a long one.
    """
    chosen = list(prompts)
    if len(chosen) > most:
        oldest, others = chosen[: most // 2], chosen[most // 2 :]
        chosen = oldest + sorted(others, key=lambda prompt: prompt.unread)[: most - len(oldest)]
    affordable = int(seconds / max(cost.per_step(len(chosen)), 1e-9))
    return chosen, max(1, min(affordable, *(prompt.until_mark for prompt in chosen)))


class UnreadPrompts(Generic[AnyPrompt]):
    """Prompts that are read together in calls of their own, in the order they came, and the cost of a step of such a
    call.

    most: the number that advances side by side; alone: that number while the thread does nothing else.
    """

    def __init__(self, most: int = MOST_PREFILLED, alone: int = MOST_PREFILLED) -> None:
        self.prompts: list[AnyPrompt] = []
        self.cost = Cost()
        self._most, self._most_alone = most, alone
        self._calls = 0

    def chunk(self, prompts: Sequence[AnyPrompt], seconds: float, alone: bool) -> tuple[list[AnyPrompt], int]:
        """The ones that advance in the next call, and the number of ids; see `prefill_chunk`.

        Side by side all advance equally, so a long prompt among many short ones would be read only when no more of
        those come. In every third call it is alone, and advances by as many ids as all of them do otherwise.
        """
        self._calls += 1
        if not self._calls % ALONE_EVERY and prompts[0].unread > LONG_PROMPT:
            prompts = prompts[:1]
        return prefill_chunk(prompts, seconds, self.cost, self._most_alone if alone else self._most)

    def forget(self, prompts: Set[AnyPrompt] = frozenset()) -> None:
        """Remove some prompts, and all that are read."""
        self.prompts = [prompt for prompt in self.prompts if prompt.unread and prompt not in prompts]
