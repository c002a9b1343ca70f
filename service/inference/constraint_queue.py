"""Constraints that wait to be compiled: callers take turns, none may hold all of the queue, gone ones are dropped."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from model.constraints.constraint import Constraint
from model.sampling.transitions import AnyConstraint
from service.errors import QueueFull
from service.process.turns import Turns

MOST_WAITING = 128  # constraints that wait, of which one caller may have as many as are left after it

Compile = Callable[[Constraint], Awaitable[AnyConstraint]]


class _Job:
    """A constraint to be compiled, for all who ask for it.

    callers: in whose turns it waits. asking: how many wait for it.
    """

    def __init__(self, constraint: Constraint, future: asyncio.Future[AnyConstraint]) -> None:
        self.constraint, self.future = constraint, future
        self.callers: set[Hashable] = set()
        self.asking = 0


class ConstraintQueue:
    """Compiles one constraint at a time, one of each caller's in turn; for the event loop's thread.

    compile: compiles one.
    """

    def __init__(self, compile: Compile) -> None:
        self._compile = compile
        self._jobs: dict[Constraint, _Job] = {}
        self._turns: Turns[_Job] = Turns()
        self._running: _Job | None = None
        self._working: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    async def get(self, constraint: Constraint, caller: Hashable) -> AnyConstraint:
        """A constraint once it is compiled.

        Raises QueueFull where the caller has its share of the queue, and what `compile` raises. Where all who ask for
        one are cancelled before its turn, it is not compiled.
        """
        job = self._jobs.get(constraint)
        if job is None or caller not in job.callers:
            if self._turns.of(caller) >= MOST_WAITING - len(self._turns):
                raise QueueFull("Too many patterns and schemas wait to be compiled; try again in a moment.")
            if job is None:
                job = self._jobs[constraint] = _Job(constraint, asyncio.get_running_loop().create_future())
            job.callers.add(caller)
            self._turns.add(caller, job)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        job.asking += 1
        try:
            return await asyncio.shield(job.future)
        finally:
            job.asking -= 1
            if not job.asking:
                self._forget(job)

    async def close(self) -> None:
        """Compile nothing more, and cancel those who wait."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        for job in list(self._jobs.values()):
            job.future.cancel()

    def _forget(self, job: _Job) -> None:
        """Nobody waits for a job any more; one that is being compiled may still find somebody who does."""
        if job is self._running:
            return
        for caller in job.callers:
            self._turns.remove(caller, job)
        if self._jobs.get(job.constraint) is job:
            del self._jobs[job.constraint]

    async def _work(self) -> None:
        """Compile what waits, until nothing does."""
        try:
            while self._turns:
                _, job = self._turns.take()
                if not job.future.done():  # in the turn of another caller
                    await self._settle(job)
        finally:
            self._working = None

    async def _settle(self, job: _Job) -> None:
        self._running = job
        try:
            made = await self._compile(job.constraint)
        except asyncio.CancelledError:
            job.future.cancel()
            raise
        except BaseException as error:
            job.future.set_exception(error)
            job.future.exception()  # seen, even if everyone who asked has left
        else:
            job.future.set_result(made)
        finally:
            self._running = None
            self._forget(job)
