"""One thread's work: a worker for each model that it has rows of, and whose turn it is."""

from collections.abc import Callable, Hashable

from service.engine.counters import WorkerCounters
from service.engine.decode_batch import alone
from service.engine.prefix_cache import PrefixCache
from service.engine.scheduler import Changes
from service.engine.sequence import EngineModel, Sequence
from service.engine.worker import Turn, Worker, fail
from service.process.time_shares import TimeShares

MOST_IDLE = 4  # workers without rows that a thread keeps for the next rows of their models


class Lanes:
    """The workers of one thread, one for each model that it has rows of; those that have work take ready.

    So a text waits for one turn of each other model, and never for all the texts that another model has to write.
    A worker without rows stays for the next rows of its model, but no more than MOST_IDLE do, and none of a retired
    model. slots: of each; a row has its slot for itself, of whichever model it is. crowd: how many slots a
    caller has, of whichever thread, while others have texts.
    """

    def __init__(
        self,
        slots: int,
        cache: PrefixCache,
        clock: Callable[[], float],
        counters: WorkerCounters | None = None,
        crowd: Callable[[Hashable], int] = alone,
    ) -> None:
        self._slots, self._cache, self._clock, self._crowd = slots, cache, clock, crowd
        self._counters = counters or WorkerCounters()
        self._workers: dict[EngineModel, Worker] = {}  # in the order of their ready
        self._shares = TimeShares()
        self.tidied = 0
        """How many models were retired when `tidy` was called last; for the caller."""

    def __len__(self) -> int:
        """How many models it has rows of."""
        return len(self._workers)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do in a turn."""
        return any(worker.busy for worker in self._workers.values())

    def turn(self, changes: Changes[Sequence]) -> Turn:
        """Apply changes, and let the worker work whose turn it is."""
        turn = Turn()
        if changes.leaving:
            for row in changes.leaving:
                self._shares.leave(row.caller, row.width)
            for worker in self._workers.values():
                worker.leave(changes.leaving)
            for model in [one for one, worker in self._workers.items() if one.retired and not worker.busy]:
                del self._workers[model]
            for row in changes.leaving:
                row.gone = True
                row.group.let_go()
        for row in changes.joining:
            self._shares.enter(row.caller, row.width)
            self._join(row, turn)
        if len(self._workers) == 1:
            [worker] = self._workers.values()
            if worker.busy:
                worker.work(turn)
            return turn
        if (ready := self._next()) is not None:
            worker = self._workers[ready] = self._workers.pop(ready)  # others come first
            worker.work(turn)
        return turn

    def _next(self) -> EngineModel | None:
        """The model whose turn it is: the first that has work, where there is one of callers who do not wait."""
        busy = [model for model, worker in self._workers.items() if worker.busy]
        waiting = self._shares.waiting
        if waiting:
            busy = [model for model in busy if not self._workers[model].callers() <= waiting] or busy
        return next(iter(busy), None)

    def tidy(self) -> None:
        """Drop workers that have no work and will have none soon."""
        idle = [model for model, worker in self._workers.items() if not worker.busy]
        for model in [one for one in idle if one.retired] + [one for one in idle if not one.retired][:-MOST_IDLE]:
            del self._workers[model]

    def _join(self, row: Sequence, turn: Turn) -> None:
        model = row.group.model
        worker = self._workers.get(model)
        if worker is None:
            try:
                worker = Worker(
                    model.decoder, self._slots, self._cache, self._clock, self._counters, self._shares, self._crowd
                )
            except Exception as error:
                fail([row.group], turn, error, self._counters)
                return
            self.tidy()
            self._workers[model] = worker
        worker.join(row, turn)
