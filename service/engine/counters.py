"""The engine's counters: plain numbers that any thread may read at any time."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Finish = Literal["stop", "length", "abort", "deadline", "error"]
"""How a text ended: as requested (the first two), cancelled by the client, at the deadline, or because the server
failed or stopped."""

Refusal = Literal["queue_full", "prompts_held", "draining", "stopped"]
"""Why the engine refused a request."""

# Upper bounds of buckets, 1-2-5. A typical model answers in a millisecond and writes a character in 0.03 ms.
LATENCIES = tuple(float(f"{mantissa}e{exponent}") for exponent in range(-4, 3) for mantissa in (1, 2, 5))  # seconds
STEPS = tuple(float(f"{mantissa}e{exponent}") for exponent in range(-5, 0) for mantissa in (1, 2, 5))  # seconds
SIZES = tuple(float(1 << bit) for bit in range(13))  # rows, up to the maximum of the settings


class Histogram:
    """The number of values in each bucket, above the bound before it and at most its own, and their sum.

    bounds: ascending (b,). counts: (b + 1,), the last for values above all bounds.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def add(self, other: "Histogram") -> None:
        """Add the counts of another histogram with the same bounds."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class WorkerCounters:
    """The counters of one thread of the engine.

    Only that thread writes them, without a lock. Others read them and may see a turn that is partly counted.

    tokens: ids drawn, up to the end of each text. failures: calls of the model that raised an exception.
    progressed: when the last turn ended, by `time.monotonic`, or when the thread woke if that is later; inf while it
    has nothing to do.
    batch_size, step_seconds: rows and duration of each decode step. inter_token: seconds between two ids of one text,
    for each id but a text's first; the ids of one call share its time, with the prefill before it.
    first_token: seconds from a request's arrival to the first id of each of its texts.
    queued: seconds from the submission of each prompt to its slot.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.failures = 0
        self.progressed = math.inf
        self.batch_size = Histogram(SIZES)
        self.step_seconds = Histogram(STEPS)
        self.inter_token = Histogram(STEPS)
        self.first_token = Histogram(LATENCIES)
        self.queued = Histogram(LATENCIES)

    def decoded(
        self, rows: int, steps: int, seconds: float, now: float, since: float, arrivals: Sequence[float], beyond: int
    ) -> None:
        """Count a call that drew `steps` ids for each of `rows` rows in `seconds` and returned at `now`.

        since: when the previous call with these rows returned. arrivals: of the requests whose rows drew for the
        first time. beyond: ids drawn after the ends of texts.
        """
        self.tokens += rows * steps - beyond
        self.batch_size.observe(rows, steps)
        self.step_seconds.observe(seconds / steps, steps)
        if going_on := rows - len(arrivals):
            self.inter_token.observe((now - since) / steps, going_on * steps)
        for arrived in arrivals:
            self.first_token.observe(now - arrived)
            if steps > 1:
                self.inter_token.observe(seconds / steps, steps - 1)

    def searched(self, rows: int, seconds: float, first: Sequence[float]) -> None:
        """Count a step of beam searches with this many beams. first: seconds until searches took their first step."""
        self.tokens += rows
        self.batch_size.observe(rows)
        self.step_seconds.observe(seconds)
        for waited in first:
            self.first_token.observe(waited)


@dataclass(slots=True)
class ModelCounts:
    """The counters of one model, written by the event loop's thread.

    submitted: texts that were accepted.
    prompt_tokens: ids of their prompts.
    tokens: ids of the texts that were completed.
    embedded: texts that became vectors, and embedded_tokens: their ids.
    """

    submitted: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    embedded: int = 0
    embedded_tokens: int = 0


class Counters:
    """All counts of an engine since its start: WorkerCounters of each thread, and counts of the event loop.

    submitted: texts that were accepted; finished: texts that have ended, by outcome. The two are equal once no text
    is left.
    refused: requests that were refused, by reason.
    prompt_tokens: ids of the accepted prompts, counted once for all texts of a prompt; unseen: characters of those
    prompts that never occurred in training.
    """

    def __init__(self, workers: Iterable[WorkerCounters]) -> None:
        self.workers = list(workers)
        self.submitted = 0
        self.finished: dict[Finish, int] = dict.fromkeys(get_args(Finish), 0)
        self.refused: dict[Refusal, int] = dict.fromkeys(get_args(Refusal), 0)
        self.prompt_tokens = 0
        self.unseen = 0

    @property
    def tokens(self) -> int:
        """Ids drawn by all threads."""
        return sum(worker.tokens for worker in self.workers)

    @property
    def failures(self) -> int:
        """Calls of the model that raised an exception, on any thread."""
        return sum(worker.failures for worker in self.workers)

    def histogram(
        self, name: Literal["batch_size", "step_seconds", "inter_token", "first_token", "queued"]
    ) -> Histogram:
        """The sum of one histogram over all threads."""
        first, *others = (getattr(worker, name) for worker in self.workers)
        whole = Histogram(first.bounds)
        for one in (first, *others):
            whole.add(one)
        return whole
