"""Constraints of requests, compiled once for all that ask alike: a cache by bytes before the compiling process."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from model.constraints.compiling import Compiled, stepwise
from model.constraints.constraint import Constraint, Limits
from model.constraints.vocabulary import Vocabulary
from model.sampling.transitions import AnyConstraint
from model.text.tokenizer import Tokenizer
from service.engine.counters import Histogram
from service.inference.constraint_process import ConstraintProcess
from service.inference.constraint_queue import ConstraintQueue
from service.process.background import Background
from service.settings import Settings

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
        self._vocabulary = Vocabulary(tokenizer, ids)
        self._limits = Limits(settings.max_pattern_characters, settings.max_schema_characters)
        self._process = ConstraintProcess(
            *(tokenizer, ids.tolist(), self._limits, settings.constraint_seconds, settings.constraint_memory_bytes)
        )
        self._most = settings.constraint_cache_bytes
        self._kept: OrderedDict[Constraint, tuple[AnyConstraint, int]] = OrderedDict()
        self._queue = ConstraintQueue(self._compile)
        self._background: Background | None = None
        self.counts = ConstraintCounts(seconds=self._process.durations)

    def __len__(self) -> int:
        return len(self._kept)

    async def get(
        self, constraint: Constraint, caller: Hashable = None, background: Background | None = None
    ) -> AnyConstraint:
        """A constraint ready to be followed.

        caller: for whom it is; callers take turns. background: does what takes some milliseconds; None = this thread.
        Raises ParameterError if it is refused, QueueFull if too many of the caller wait to be compiled, and
        MemorySpent if no process can be started for it.
        """
        constraint.check(self._limits)
        self.counts.queries += 1
        key = replace(constraint, name="")
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            self.counts.hits += 1
            return kept[0]
        self._background = background
        return await self._queue.get(constraint, caller)

    async def close(self) -> None:
        """End the compiling process."""
        await self._queue.close()
        await self._process.close()

    async def _compile(self, constraint: Constraint) -> AnyConstraint:
        key = replace(constraint, name="")
        if (kept := self._kept.get(key)) is not None:  # asked for by another name in the meantime
            return kept[0]
        transitions = await self._process.compile(constraint)
        made = await self._stepwise(constraint) if transitions is None else Compiled(transitions)
        self._keep(key, made, made.nbytes + 2 * len(constraint.source) + ENTRY_BYTES)
        return made

    def _keep(self, key: Constraint, made: AnyConstraint, size: int) -> None:
        """Keep a constraint, and forget those that were not used for the longest time where they are too many."""
        self._kept[key] = made, size
        self.counts.bytes += size
        while self.counts.bytes > self._most:
            self.counts.bytes -= self._kept.popitem(last=False)[1][1]
            self.counts.evictions += 1

    async def _stepwise(self, constraint: Constraint) -> Compiled:
        """A constraint without a table: llguidance takes some milliseconds, without the GIL."""
        make = partial(stepwise, constraint, self._vocabulary, self._limits)
        return make() if self._background is None else await self._background.do(make)
