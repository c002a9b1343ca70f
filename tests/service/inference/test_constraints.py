"""Constraints of a server: compiled once, kept within bytes, and by a process that may hang, grow or die."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from model.constraints.compiling import Compiled
from model.constraints.constraint import Constraint, Kind
from model.errors import ParameterError
from service.errors import MemorySpent
from service.inference.constraints import Constraints
from service.settings import Settings
from tests.model.constraints.written import CHECKPOINT, DECODER, constraint, write


def using(work: Callable[[Constraints], Awaitable[Any]], **settings: Any) -> Any:
    """Do something with the constraints of a server."""

    async def main() -> Any:
        constraints = Constraints(CHECKPOINT.tokenizer, DECODER.ids, Settings(**settings))
        try:
            return await asyncio.wait_for(work(constraints), 1100)
        finally:
            await constraints.close()

    return asyncio.run(main())


def regex(pattern: str, name: str = "guided_regex") -> Constraint:
    return Constraint("regex", pattern, name)


def test_what_another_process_compiles_is_what_this_one_would() -> None:
    async def work(constraints: Constraints) -> None:
        asked: list[tuple[Kind, str]] = [
            ("regex", "[a-f]{3}-\\d+"),
            ("json_object", ""),
            ("choice", '["a","é"]'),
            ("bad_words", '["e"]'),
        ]
        for kind, source in asked:
            found = await constraints.get(Constraint(kind, source))
            assert isinstance(found, Compiled)
            ours = constraint(kind, source)
            assert write(found, seed=5) == write(ours, seed=5)
            assert found.exact == ours.exact

    using(work)


def test_what_was_compiled_is_found_again_under_any_name() -> None:
    async def work(constraints: Constraints) -> None:
        first = await constraints.get(regex("a+b"))
        assert await constraints.get(regex("a+b", "structured_outputs.regex")) is first
        counts = constraints.counts
        assert (counts.queries, counts.hits, sum(counts.seconds.counts), len(constraints)) == (2, 1, 1, 1)
        held = counts.bytes
        both = await asyncio.gather(constraints.get(regex("a+c")), constraints.get(regex("a+c")))
        assert both[0] is both[1]
        assert sum(counts.seconds.counts) == 2
        await asyncio.gather(constraints.get(regex("a+d")), constraints.get(regex("a+d", "guided_regex_too")))
        assert (counts.bytes, len(constraints), counts.evictions) == (3 * held, 3, 0)

    using(work)


def test_the_cache_keeps_within_its_bytes_and_forgets_the_longest_unused() -> None:
    async def work(constraints: Constraints) -> None:
        for number in range(40):
            await constraints.get(regex(f"a{{{number}}}[a-z]*"))
            await constraints.get(regex("kept"))
            assert 0 < constraints.counts.bytes <= 20_000
        assert 2 < len(constraints) < 30
        assert len(constraints) + constraints.counts.evictions == 41
        compiled = sum(constraints.counts.seconds.counts)
        await constraints.get(regex("kept"))
        assert sum(constraints.counts.seconds.counts) == compiled
        await constraints.get(regex("a{0}[a-z]*"))
        assert sum(constraints.counts.seconds.counts) == compiled + 1

    using(work, constraint_cache_bytes=20_000)


def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    async def work(constraints: Constraints) -> None:
        assert await constraints.get(regex("ab")) is not await constraints.get(regex("ab"))
        assert (constraints.counts.bytes, len(constraints)) == (0, 0)

    using(work, constraint_cache_bytes=0)


def test_a_pattern_that_takes_too_long_is_given_up_and_others_are_not() -> None:
    async def work(constraints: Constraints) -> None:
        await constraints.get(regex("ab"))
        slow = json.dumps({"enum": [f"{number:05}" for number in range(3000)]})
        with pytest.raises(ParameterError, match=r"guided_json took longer than 0\.02 s; write a smaller one"):
            await constraints.get(Constraint("json_schema", slow, "guided_json"))
        await constraints.get(regex("ac"))

    using(work, constraint_seconds=0.02)


def test_a_process_that_was_killed_is_started_again() -> None:
    async def work(constraints: Constraints) -> None:
        await constraints.get(regex("ab"))
        process = constraints._process._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await constraints.get(regex("ac"))
        assert constraints._process._process is not process
        process = constraints._process._process

    using(work)


def test_a_request_that_is_cancelled_leaves_the_process_to_others() -> None:
    async def work(constraints: Constraints) -> None:
        task = asyncio.create_task(constraints.get(regex("ab")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await constraints.get(regex("ab"))
        assert sum(constraints.counts.seconds.counts) == 1

    using(work)


def test_where_no_process_can_be_started_the_server_says_so_and_does_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(constraints: Constraints) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("sys.executable", "/no/such/program")
            with pytest.raises(MemorySpent, match="no memory now for the process"):
                await constraints.get(regex("ab"))
        await constraints.get(regex("ab"))

    using(work)


@pytest.mark.parametrize(
    "count", [280, pytest.param(10_000, marks=[pytest.mark.large, pytest.mark.timeout(1200)])], ids=str
)
def test_refused_patterns_leave_nothing_behind(count: int) -> None:
    """Memory of both processes after many patterns that nest, cycle, refer elsewhere or do not parse."""

    def resident(pid: int) -> int:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]) * 1024

    def hostile(number: int) -> Constraint:
        cycle = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
        schemas = [
            {**cycle, "title": str(number)},
            {"$ref": f"http://127.0.0.1:9/{number}"},
            {"type": "integer", "minimum": number, "maximum": -1},
            {"allOf": [{"const": number}, {"type": "string"}]},
        ]
        patterns = [f"(b{number}", f"Ω{number}", f"(a|b{number}" if number % 20 else f"((a{{{number}}}){{99}}){{99}}"]
        every = [Constraint("json_schema", json.dumps(schema), "x") for schema in schemas]
        every += [regex(pattern) for pattern in patterns]
        return every[number % len(every)]

    async def work(constraints: Constraints) -> None:
        sizes: list[tuple[int, int]] = []
        for number in range(1, count + 1):
            with pytest.raises(ParameterError):
                await constraints.get(hostile(number))
            if number in (count // 2, count):
                process = constraints._process._process
                assert process is not None
                sizes.append((resident(os.getpid()), resident(process.pid)))
        before, after = sizes
        assert after[0] - before[0] < 4 << 20
        assert after[1] < 160 << 20
        assert len(constraints) == constraints.counts.bytes == 0

    using(work)
