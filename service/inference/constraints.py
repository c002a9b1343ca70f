"""Constraints of requests, compiled once for all that ask alike: a cache by bytes before the compiling process."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.constraints.compiling import Compiled, stepwise
from model.constraints.constraint import Constraint, Limits
from model.constraints.vocabulary import Vocabulary
from model.sampling.transitions import AnyConstraint
from model.text.tokenizer import Tokenizer
from service.engine.counters import Histogram
from service.errors import QueueFull
from service.inference.constraint_process import ConstraintProcess
from service.settings import Settings

MOST_WAITING = 64  # constraints that wait to be compiled
ENTRY_BYTES = 1024  # of the cache, beside the table and the source


@dataclass(slots=True)
class ConstraintCounts:
    """What was counted since the start.

    seconds: that each new constraint took to be compiled or refused, once it had its turn. queries: constraints asked
    for within their limits. hits: those that were kept. evictions: those that left the cache for others. bytes: of what
    it holds.
    """

    seconds: Histogram
    queries: int = 0
    hits: int = 0
    evictions: int = 0
    bytes: int = 0


class Constraints:
    """Compiles constraints for one model; for the event loop's thread.

    ids: the id of each column of the decoder's logits (S,).
    """

    def __init__(self, tokenizer: Tokenizer, ids: NDArray[np.int64], settings: Settings) -> None:
        self._tokenizer, self._ids = tokenizer, ids
        self._vocabulary: Vocabulary | None = None
        self._limits = Limits(settings.max_pattern_characters, settings.max_schema_characters)
        self._process = ConstraintProcess(
            *(tokenizer, ids.tolist(), self._limits, settings.constraint_seconds, settings.constraint_memory_bytes)
        )
        self._most = settings.constraint_cache_bytes
        self._kept: OrderedDict[Constraint, tuple[AnyConstraint, int]] = OrderedDict()
        self._coming: dict[Constraint, asyncio.Task[AnyConstraint]] = {}
        self.counts = ConstraintCounts(seconds=self._process.durations)

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, constraint: Constraint) -> AnyConstraint:
        """A constraint ready to be followed.

        Raises ParameterError if it is refused, and QueueFull if too many wait to be compiled.
        """
        constraint.check(self._limits)
        self.counts.queries += 1
        key = replace(constraint, name="")
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            self.counts.hits += 1
            return kept[0]
        task = self._coming.get(constraint)
        if task is None:
            if len(self._coming) >= MOST_WAITING:
                raise QueueFull("Too many patterns and schemas wait to be compiled; try again in a moment.")
            task = self._coming[constraint] = asyncio.create_task(self._compile(constraint, key))
            task.add_done_callback(lambda task: self._forget(constraint, task))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End the compiling process."""
        await self._process.close()

    def _forget(self, constraint: Constraint, task: "asyncio.Task[AnyConstraint]") -> None:
        del self._coming[constraint]
        if not task.cancelled():
            task.exception()  # seen, even if everyone who asked has left

    async def _compile(self, constraint: Constraint, key: Constraint) -> AnyConstraint:
        transitions = await self._process.compile(constraint)
        made = await asyncio.to_thread(self._stepwise, constraint) if transitions is None else Compiled(transitions)
        size = made.nbytes + 2 * len(constraint.source) + ENTRY_BYTES
        if key in self._kept:  # asked for by another name in the meantime
            self.counts.bytes -= self._kept.pop(key)[1]
        self._kept[key] = made, size
        self.counts.bytes += size
        while self.counts.bytes > self._most:
            self.counts.bytes -= self._kept.popitem(last=False)[1][1]
            self.counts.evictions += 1
        return made

    def _stepwise(self, constraint: Constraint) -> Compiled:
        """A constraint without a table, in a thread of its own: llguidance takes some milliseconds, without the GIL."""
        self._vocabulary = self._vocabulary or Vocabulary(self._tokenizer, self._ids)
        return stepwise(constraint, self._vocabulary, self._limits)
