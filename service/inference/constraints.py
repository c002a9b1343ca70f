"""Constraints of requests, compiled once for all that ask alike: a cache by bytes before the compiling process."""

import asyncio
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
from service.engine.counters import LATENCIES, Histogram
from service.inference.constraint_process import ConstraintProcess, Processes
from service.inference.constraint_queue import ConstraintQueue
from service.process.background import Background
from service.settings import Settings

RETIRE_SECONDS = 0.1  # between two looks whether somebody still waits for a constraint of a retired model
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


class ConstraintCache:
    """Compiled constraints of all models, in at most `most` bytes; for the event loop's thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[bytes, Constraint], tuple[AnyConstraint, int]] = OrderedDict()
        self.counts = ConstraintCounts(Histogram(LATENCIES))
        self.processes = Processes()
        """What compiles them."""

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, owner: bytes, constraint: Constraint) -> AnyConstraint | None:
        """A constraint that was compiled for the model with that digest."""
        kept = self._kept.get((owner, constraint))
        if kept is None:
            return None
        self._kept.move_to_end((owner, constraint))
        return kept[0]

    def keep(self, owner: bytes, constraint: Constraint, made: AnyConstraint, size: int) -> None:
        """Keep a constraint, and forget those that were not used for the longest time where they are too many."""
        self._kept[owner, constraint] = made, size
        self.counts.bytes += size
        while self.counts.bytes > self._most:
            self.counts.bytes -= self._kept.popitem(last=False)[1][1]
            self.counts.evictions += 1

    def forget(self, owner: bytes) -> None:
        """Forget what was compiled for a model."""
        for key in [key for key in self._kept if key[0] == owner]:
            self.counts.bytes -= self._kept.pop(key)[1]


class Constraints:
    """Compiles constraints for one model; for the event loop's thread.

    ids: the id of each column of the decoder's logits (S,). owner: tells the model apart from others in `cache`, which
    is shared; None makes one.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        ids: NDArray[np.int64],
        settings: Settings,
        owner: bytes = b"",
        cache: ConstraintCache | None = None,
    ) -> None:
        self._owner = owner
        self._cache = ConstraintCache(settings.constraint_cache_bytes) if cache is None else cache
        self.counts = self._cache.counts
        self._vocabulary = Vocabulary(tokenizer, ids)
        self._limits = Limits(settings.max_pattern_characters, settings.max_schema_characters)
        self._process = ConstraintProcess(
            *(tokenizer, ids.tolist(), self._limits, settings.constraint_seconds, settings.constraint_memory_bytes),
            self.counts.seconds,
            self._cache.processes,
        )
        self._queue = ConstraintQueue(self._compile)
        self._background: Background | None = None

    def __len__(self) -> int:
        return len(self._cache)

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
        kept = self._cache.find(self._owner, key)
        if kept is not None:
            self.counts.hits += 1
            return kept
        self._background = background
        return await self._queue.get(constraint, caller)

    async def retire(self) -> None:
        """End the compiling process as soon as nobody waits for it, and keep nothing that it compiled."""
        while len(self._queue):
            await asyncio.sleep(RETIRE_SECONDS)
        self._cache.forget(self._owner)
        await self._process.close()

    async def close(self) -> None:
        """End the compiling process."""
        await self._queue.close()
        await self._process.close()

    async def _compile(self, constraint: Constraint) -> AnyConstraint:
        key = replace(constraint, name="")
        if (kept := self._cache.find(self._owner, key)) is not None:  # asked for by another name in the meantime
            return kept
        transitions = await self._process.compile(constraint)
        made = await self._stepwise(constraint) if transitions is None else Compiled(transitions)
        self._cache.keep(self._owner, key, made, made.nbytes + 2 * len(constraint.source) + ENTRY_BYTES)
        return made

    async def _stepwise(self, constraint: Constraint) -> Compiled:
        """A constraint without a table: llguidance takes some milliseconds, without the GIL."""
        make = partial(stepwise, constraint, self._vocabulary, self._limits)
        return make() if self._background is None else await self._background.do(make)
