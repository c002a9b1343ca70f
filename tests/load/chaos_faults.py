"""Chaos: the engine itself fails: a call raises, a thread dies, a step hangs, the clock on the wall jumps."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from tests.load.bystanders import Bystanders, Row
from tests.load.faulty import DIES, DRAWS, HANGS, JOINS, JUMPS
from tests.load.outcome import Outcome, counted, outcome
from tests.load.process import FAULTY, Running, unroll_serve

BROKEN = 3  # how often each fault is injected
STALL_SECONDS = 0.5
GIVEN_UP = "live 503, ready 503"  # after six times as long
PATIENCE = 30.0  # seconds for a busy machine to come to it
WORDS = {"/health/live": "live", "/health/ready": "ready"}


async def broken(server: Running, fault: str, **given: Any) -> Outcome:
    """The outcome of a request that breaks something."""
    return await outcome(server.port, {"prompt": f"break {fault}", "max_tokens": 50, **given})


def health(server: Running) -> str:
    """What the server says of itself."""
    try:
        return ", ".join(f"{word} {server.get(path)[0]}" for path, word in WORDS.items())
    except OSError:
        return "no answer"


async def raising(fault: str, when: str, shared: bool) -> Row:
    """A call of the model that raises; those in the same call fail with it, by design, and nobody else."""
    with unroll_serve("--max-rows", "16", program=FAULTY) as server:
        async with Bystanders(server) as beside:
            seen = []
            for at in range(BROKEN):
                seen.append(await broken(server, fault, stream=at % 2 == 0))
                await asyncio.sleep(0.3)
        failures = server.total("unroll_step_failures_total")
        rest, state = server.resting(), health(server)
    told = all(one.whole and one.code == "step_failed" for one in seen)
    clean = beside.unharmed or (shared and {one.words for one in beside.outcomes} <= IN_THE_SAME_CALL)
    holds = told and clean and not beside.others and failures == BROKEN and rest
    after = f"goes on: {state}; {failures:.0f} failures counted, at rest {'again' if rest else 'NEVER AGAIN'}"
    return Row(f"a call raises {when}, {BROKEN} times", counted(seen), beside.words, after, holds)


IN_TIME = {
    *("200, then an error event deadline_exceeded, [DONE]", "504 deadline_exceeded"),
    *("200, then an error event draining, [DONE]", "503 draining, Retry-After 5", "connection ended before an answer"),
}
IN_THE_SAME_CALL = {"200, finish length", "200, then an error event step_failed, [DONE]", "500 step_failed"}


async def dying() -> Row:
    """A thread that generates ends, of two."""
    with unroll_serve("--threads", "2", program=FAULTY, core=None) as server:
        async with Bystanders(server) as beside:
            seen = await broken(server, DIES)
            state = health(server)
            code, seconds = await asyncio.to_thread(server.ended, 20)
    told = {one.words for one in beside.outcomes if one.finish is None}
    fine = {
        "200, then an error event engine_stopped, [DONE]",
        "503 engine_stopped, Retry-After 5",
        "connection ended before an answer",
    }
    holds = seen.code == "engine_stopped" and code == 1 and told <= fine and not beside.others
    after = f"{state}; ends with status {code} after {seconds:.1f} s, to be started anew"
    return Row("one of two threads dies", seen.words, beside.words, after, holds)


async def hanging(threads: int) -> Row:
    """A step that never ends, and what can be done then: SIGTERM, twice."""
    flags = ("--stall-seconds", str(STALL_SECONDS), "--grace-seconds", "1", "--deadline-seconds", "3")
    with unroll_serve("--threads", str(threads), *flags, program=FAULTY, core=None) as server:
        async with Bystanders(server) as beside:
            hung = asyncio.create_task(broken(server, HANGS))
            began, states = time.perf_counter(), [health(server)]
            while states[-1] != GIVEN_UP and time.perf_counter() - began < PATIENCE:
                await asyncio.sleep(0.1)
                state = await asyncio.to_thread(health, server)
                if state != states[-1]:
                    states.append(state)
                    states[-1:] = [state]
            server.signal(signal.SIGTERM)
            ended = await stopped(server, 6)
            server.process.kill()
            seen = await hung
    told = {one.words for one in beside.outcomes if one.finish is None}
    holds = states[-1] == GIVEN_UP and "killed" not in ended and told <= IN_TIME and not beside.others
    after = " → ".join(states) + f"; after SIGTERM: {ended}"
    return Row(f"a step hangs for ever, on one of {threads} threads", seen.words, beside.words, after, holds)


async def stopped(server: Running, seconds: float) -> str:
    """How a server ends after a signal, or a second one, or only when it is killed."""
    for times in ("the signal", "a second signal"):
        try:
            code, took = await asyncio.to_thread(server.ended, seconds)
        except subprocess.TimeoutExpired:
            server.signal(signal.SIGTERM)
            continue
        return f"exit status {code}, {took:.1f} s after {times}"
    return "does not end, has to be killed"


async def jumping() -> Row:
    """The clock on the wall goes a year back, as when a machine's time is set; steady clocks do not."""
    with unroll_serve(program=FAULTY) as server:
        async with Bystanders(server) as beside:
            seen = [await broken(server, JUMPS) for _ in range(2)]
            await asyncio.sleep(0.5)
        state = health(server)
    holds = beside.unharmed and all(one.finish == "length" for one in seen) and state == "live 200, ready 200"
    return Row("the clock jumps back by a year", counted(seen), beside.words, f"goes on: {state}", holds)


def _named(name: str, scenario: Callable[[], Awaitable[Row]]) -> Callable[[], Awaitable[Row]]:
    scenario.__name__ = name
    return scenario


SCENARIOS: list[Callable[[], Awaitable[Row]]] = [
    _named("raising_joins", partial(raising, JOINS, "as a text takes its place", False)),
    _named("raising_draws", partial(raising, DRAWS, "as texts draw together", True)),
    dying,
    _named("hanging_one", partial(hanging, 1)),
    _named("hanging_two", partial(hanging, 2)),
    jumping,
]
