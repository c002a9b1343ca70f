"""The compiling process as the server has it: started when needed, asked one thing at a time, ended if too slow."""

import asyncio
import json
import logging
import os
import sys
import time
from asyncio.subprocess import Process
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.constraints.constraint import Constraint, Limits
from model.errors import ParameterError
from model.sampling.transitions import Transitions
from model.text.tokenizer import Tokenizer
from service.engine.counters import Histogram
from service.errors import MemorySpent
from service.inference.messages import LENGTH, message

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]  # from where the packages are imported, installed or not
START_SECONDS = 60.0  # a machine that starts Python slower has other trouble
PIPE = asyncio.subprocess.PIPE
NOT_STARTED = MemorySpent(
    "The server has no memory now for the process that compiles patterns and schemas; try again in a moment."
)
ANYTHING = b'{"kind": "choice", "source": "[]"}'  # to see that it answers


MOST_PROCESSES = 2  # of all models, beside those that are compiling


class Processes:
    """The compiling processes of all models, of which few stay when they have nothing to do."""

    def __init__(self) -> None:
        self._running: OrderedDict[ConstraintProcess, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._running)

    async def use(self, process: "ConstraintProcess") -> None:
        """A process is about to be used: of others, those that were not for the longest time are ended."""
        self._running[process] = None
        self._running.move_to_end(process)
        idle = [one for one in self._running if one is not process and not one.compiling]
        for one in idle[: max(0, len(self._running) - MOST_PROCESSES)]:
            if not one.compiling:  # it may have begun while another was ended
                await one.close()

    async def close(self) -> None:
        """End all of them."""
        for process in list(self._running):
            await process.close()

    def ended(self, process: "ConstraintProcess") -> None:
        """A process has been ended."""
        self._running.pop(process, None)


class ConstraintProcess:
    """Compiles constraints for one vocabulary in another process; for the event loop's thread.

    ids: of the columns of the logits. seconds: that one constraint may take. memory: bytes the process may have.
    durations: seconds that each took, refused ones as well. processes: those of all models.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        ids: list[int],
        limits: Limits,
        seconds: float,
        memory: int,
        durations: Histogram,
        processes: Processes,
    ) -> None:
        beginning = {"characters": tokenizer.characters, "ids": ids, "limits": asdict(limits), "memory": memory}
        self._beginning = message(json.dumps(beginning).encode())
        self._seconds = seconds
        self.durations = durations
        self._processes = processes
        self._process: Process | None = None
        self._answered = True  # whether the process has said all it has to say
        self._turn: asyncio.Lock | None = None  # made in the loop that uses it

    @property
    def compiling(self) -> bool:
        """Whether it has something to do."""
        return self._turn is not None and self._turn.locked()

    async def compile(self, constraint: Constraint) -> Transitions | None:
        """The table of a constraint, or None if it has none and is to be followed step by step.

        Raises ParameterError if the constraint is refused, takes too long or too much memory, and MemorySpent where
        no process can be started.
        """
        self._turn = self._turn or asyncio.Lock()
        content = json.dumps(asdict(constraint)).encode()
        async with self._turn:
            await self._processes.use(self)
            start = time.perf_counter()
            try:
                try:
                    found, numbers = await self._asked(content)
                except (EOFError, OSError):  # perhaps it ended while it had nothing to do
                    await self.close()
                    found, numbers = await self._asked(content)
            except TimeoutError:
                raise constraint.refused(f"took longer than {self._seconds:g} s; write a smaller one") from None
            except (EOFError, OSError):
                raise constraint.refused("takes more memory than it may; write a smaller one") from None
            finally:
                self.durations.observe(time.perf_counter() - start)
                if not self._answered:  # an answer would come for nobody
                    await self.close()
        if "error" in found:
            raise ParameterError(found["parameter"], found["error"])
        return Transitions.from_bytes(numbers, *found["table"]) if found["table"] else None

    async def close(self) -> None:
        """End the process; the next constraint starts another."""
        self._processes.ended(self)
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _asked(self, content: bytes) -> tuple[dict[str, Any], bytes]:
        """The answer to a constraint, and the numbers of its table."""
        self._answered = False
        process = await self._started()
        async with asyncio.timeout(self._seconds):
            found: dict[str, Any] = json.loads(await self._ask(process, content))
            numbers = await _receive(process) if found.get("table") else b""
        self._answered = True
        return found, numbers

    async def _started(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("UNROLL_")}
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "service.inference.constraint_worker"),
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    cwd=ROOT,
                    env={**environment, "OPENBLAS_NUM_THREADS": "1"},
                    limit=1 << 26,
                    start_new_session=True,  # Ctrl-C is for the server, which ends this
                )
                async with asyncio.timeout(START_SECONDS):
                    await self._ask(self._process, ANYTHING, self._beginning)
            except (EOFError, OSError, RuntimeError, TimeoutError) as error:  # no memory, descriptor or thread for it
                logger.error("The process that compiles patterns and schemas did not start.", exc_info=error)
                raise NOT_STARTED from error
        return self._process

    @staticmethod
    async def _ask(process: Process, content: bytes, before: bytes = b"") -> bytes:
        assert process.stdin is not None
        process.stdin.write(before + message(content))
        await process.stdin.drain()
        return await _receive(process)


async def _receive(process: Process) -> bytes:
    """The next message. Raises EOFError if the process has ended."""
    assert process.stdout is not None
    length = int.from_bytes(await process.stdout.readexactly(LENGTH), "big")
    return await process.stdout.readexactly(length)
