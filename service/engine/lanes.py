"""The work of one thread: a worker for each model that the thread has rows of, and the order of their turns."""

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
    """The workers of one thread, one for each model that it has rows of; those that have work take turns.

    So a text waits for one turn of each other model, and never for all the texts of another model. A worker without
    rows stays for the next rows of its model, but at most MOST_IDLE of them stay, and none of a retired model. slots:
    of each worker; each row has a slot of its own, whatever its model.
    crowd: the number of slots of a caller, on all threads, while others have texts.
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
        self._workers: dict[EngineModel, Worker] = {}  # in the order of their turns
        self._shares = TimeShares()
        self.tidied = 0
        """The number of retired models at the last call of `tidy`; for the caller."""

    def __len__(self) -> int:
        """The number of models that it has rows of."""
        return len(self._workers)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do in a turn."""
        return any(worker.busy for worker in self._workers.values())

    def turn(self, changes: Changes[Sequence]) -> Turn:
        """Apply changes, and run the worker whose turn it is."""
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
            worker = self._workers[ready] = self._workers.pop(ready)  # to the end of the order
            worker.work(turn)
        return turn

    def _next(self) -> EngineModel | None:
        """The model whose turn it is: the first with work for callers who do not wait, if there is one."""
        busy = [model for model, worker in self._workers.items() if worker.busy]
        waiting = self._shares.waiting
        if waiting:
            busy = [model for model in busy if not self._workers[model].callers() <= waiting] or busy
        return next(iter(busy), None)

    def tidy(self) -> None:
        """Drop workers that have no work and will not have any soon."""
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
