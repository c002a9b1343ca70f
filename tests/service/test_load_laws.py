"""The laws that the load scripts test at full size, in small: P6 and P10 but for memory, P7, P8 and P9."""

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from service.settings import Settings
from tests.load import mix
from tests.load.__main__ import main as run_script
from tests.load.counters import agreement
from tests.load.draining import Probes
from tests.load.mixed import FLAGS, Crowd, Rest, nothing_left
from tests.load.outcome import Outcome, outcome
from tests.load.process import unroll_serve
from tests.load.queueing import Turn, expected, overtaken
from tests.load.wire import Answer, Talk, request
from tests.service.raw_client import connected
from tests.service.serving import ENDLESS, Running, SlowDecoder, eventually, serving

REQUESTS = 250
SOON = 0.010  # seconds: P7 and P8
STEP = 0.002  # seconds that a step of SlowDecoder takes at least
ATTEMPTS = 20  # of which one has to be that quick: a busy machine makes some slow, a mistake all
ROWS = WAITING = 4
KEY = "a-key-for-the-laws-of-load"
GREEDY = "a-key-that-asks-for-too-much"


def test_p6_p10_after_mixed_requests_nothing_is_left_nothing_failed_and_all_is_counted(checkpoint_folder: Path) -> None:
    """Among them every kind of malformed one, and every way to leave in the middle."""
    with unroll_serve(str(checkpoint_folder), *FLAGS, key=mix.KEY, core=None) as server:
        server.get("/health")
        before, base = Rest(server), server.samples()
        crowd = Crowd(server, REQUESTS)
        asyncio.run(crowd.run())
        figures = [*nothing_left(server, before), *agreement(crowd.tally, base, server.samples())]
    assert crowd.tally.surprises == []
    assert {200, 400, 401, 404, 413, 415, 421} <= set(crowd.tally.answers)
    assert crowd.tally.given_up > REQUESTS // 20
    assert [figure for figure in figures if figure.holds is False] == []


@pytest.fixture(scope="module")
def saturated(checkpoint_folder: Path) -> Iterator[Running]:
    """A server with as many texts as it takes, running and waiting, none of which ends."""
    settings = Settings(
        checkpoint=checkpoint_folder,
        max_rows=ROWS,
        max_waiting=WAITING,
        api_keys=f"{KEY},{GREEDY}",
        key_requests_per_minute=ATTEMPTS * 10,
    )
    with serving(settings, SlowDecoder) as running, ExitStack() as stack:
        for _ in range(ROWS + WAITING):
            client = stack.enter_context(connected(running))
            client.sendall(request("/v1/completions", {"prompt": "a", "max_tokens": ENDLESS}, key=KEY))
        assert eventually(lambda: (running.engine.running, running.engine.waiting) == (ROWS, WAITING))
        yield running
        assert (running.engine.running, running.engine.waiting) == (ROWS, WAITING)


def steps(server: Running) -> int:
    """Steps that its texts have made."""
    return sum(sum(worker.batch_size.counts) for worker in server.engine.counters.workers)


def asked(server: Running, data: bytes) -> tuple[Answer, float]:
    """An answer on a connection of its own, and its seconds, less those in which other programs had the processor.

    They are the processor time of this process, or STEP for each step meanwhile, whichever is more: the one has what is
    computed, the other what waits, for the engine or for a time, as the texts of a saturated server always step.
    """
    before, began = steps(server), time.process_time()
    talk = Talk(int(server.url.rpartition(":")[2]))
    answer = talk.ask(data)
    seconds = max(time.process_time() - began, STEP * (steps(server) - before))
    talk.close()
    return answer, seconds


def quickest(server: Running, data: bytes, status: int, code: str = "") -> float:
    """The least seconds of some attempts, all of which have to be answered so."""
    seconds = []
    for _ in range(ATTEMPTS):
        answer, took = asked(server, data)
        seconds.append(took)
        assert (answer.status, answer.code) == (status, code)
        assert (status in (429, 503)) == ("retry-after" in answer.headers)
    return min(seconds)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_p7_a_saturated_server_tells_within_10_ms_how_it_is(path: str, saturated: Running) -> None:
    assert quickest(saturated, request(path, key=KEY), 200) < SOON


REFUSALS = {
    "queue full": (request("/v1/completions", {"prompt": "a"}, key=KEY), 429, "queue_full"),
    "no key": (request("/v1/completions", {"prompt": "a"}), 401, "invalid_api_key"),
    "invalid": (request("/v1/completions", {"prompt": 1}, key=KEY), 400, "invalid_value"),
    "too large": (
        request("/v1/completions", key=KEY, method="POST", headers={"Content-Length": str(10**9)}),
        413,
        "body_too_large",
    ),
}


@pytest.mark.parametrize(("data", "status", "code"), REFUSALS.values(), ids=REFUSALS)
def test_p8_a_saturated_server_refuses_within_10_ms(data: bytes, status: int, code: str, saturated: Running) -> None:
    assert quickest(saturated, data, status, code) < SOON


def test_p8_a_key_over_its_rate_is_refused_within_10_ms(saturated: Running) -> None:
    talk = Talk(int(saturated.url.rpartition(":")[2]))
    version = request("/version", key=GREEDY)
    assert any(talk.ask(version).status == 429 for _ in range(ATTEMPTS * 20))
    talk.close()
    seconds = []
    for _ in range(ATTEMPTS):
        answer, took = asked(saturated, request("/v1/completions", {"prompt": "a"}, key=GREEDY))
        if answer.code == "rate_limit_exceeded":  # now and then it has earned another one
            seconds.append(took)
            assert int(answer.headers["retry-after"]) >= 1
    assert min(seconds) < SOON


def test_p8_who_came_first_is_served_first_and_nobody_is_left_out(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, max_rows=2, max_waiting=20, stream_interval=0)
    with serving(settings, SlowDecoder) as running:
        began: list[int] = []

        def is_taken(texts: int) -> bool:
            return running.engine.counters.submitted == texts

        def ask(at: int) -> None:
            fields = {"prompt": "ab", "max_tokens": 10 + 15 * (at % 3), "stream": True}
            with running.client.stream("POST", "/v1/completions", json=fields) as response:
                pieces = response.iter_raw()
                next(pieces)
                began.append(at)
                assert b"".join(pieces).endswith(b"data: [DONE]\n\n")

        threads = [threading.Thread(target=ask, args=(at,)) for at in range(12)]
        for taken, thread in enumerate(threads, 1):
            thread.start()
            assert eventually(partial(is_taken, taken))
        for thread in threads:
            thread.join(10)
    assert sorted(began) == list(range(12))
    # Two who begin in the same turn are seen by this thread in any order.
    assert all(later > earlier - 2 for earlier, later in itertools.pairwise(began))


def test_the_script_s_measure_of_fairness_finds_who_was_overtaken() -> None:
    """One place, texts of a second: each begins as the one before ends, but for the third, who comes last."""
    fair = [Turn(0.1 * at, began=1.0 * at, ended=1.0 * at + 1) for at in range(6)]
    assert overtaken(fair) == 0
    assert all(abs(wait - fair_wait) < 0.01 for wait, fair_wait in expected(fair))
    unfair = [*fair[:2], Turn(0.2, 5.0, 6.0), *(Turn(0.1 * at, at - 1.0, 1.0 * at) for at in range(3, 6))]
    assert overtaken(unfair) == 1
    assert max(wait - fair_wait for wait, fair_wait in expected(unfair)) > 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("chaos", "--only", "nothing"), "chaos has no part with 'nothing' in its name, but terminated, "),
        (("hostile", "--only", "nothing"), "hostile has no part with 'nothing' in its name, but "),
        (("cancel", "--only", "gone"), "cancel has no part with 'gone' in its name, but none"),
        (("cancel", "--markdown", "table.md"), "cancel has no table of that kind, but chaos"),
    ],
)
def test_the_scripts_refuse_what_would_choose_nothing(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_script(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


COMMENT = b": keep-alive\n"
PIECE = b'data: {"choices": [{"text": "ab", "finish_reason": null}]}\nid: x.2\n\n'
STOPPED = b'data: {"error": {"code": "draining"}}\nid: x.2\n\n'
DONE = b"id: x.2\ndata: [DONE]\n\n"


@pytest.mark.parametrize(
    ("stream", "text", "words"),
    [
        (COMMENT + PIECE + COMMENT + STOPPED + DONE, "ab", "200, then an error event draining, [DONE]"),
        (COMMENT + STOPPED + DONE, "", "200, then an error event draining, [DONE]"),
        (PIECE + COMMENT + b"\n" + PIECE + DONE, "abab", "200, finish None"),
        (PIECE + COMMENT + PIECE[:20], "ab", "200, finish None, cut off"),
    ],
)
def test_the_scripts_read_an_event_behind_a_comment(stream: bytes, text: str, words: str) -> None:
    """A server that is silent for long sends comments, and what comes then stands right behind one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(stream), stream))
        writer.close()

    async def ask() -> Outcome:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            return await outcome(server.sockets[0].getsockname()[1], {"stream": True})

    seen = asyncio.run(ask())
    assert (seen.text, seen.words) == (text, words)


def test_p9_nothing_taken_before_the_signal_is_lost_and_readiness_goes_first(checkpoint_folder: Path) -> None:
    flags = ("--max-rows", "4", "--max-waiting", "8", "--grace-seconds", "30")

    async def asked(port: int, begun: asyncio.Event) -> list[Outcome]:
        fields = [
            {"prompt": f"{at} a", "max_tokens": 20_000, "seed": at, "stream": at % 2 == 0} for at in range(8)
        ]  # fmt: skip
        return await asyncio.gather(*(outcome(port, one, begun) for one in fields))

    async def stopped() -> tuple[list[Outcome], list[Outcome], Probes, int]:
        expected_ = await asked(server.port, asyncio.Event())
        begun, probes = asyncio.Event(), Probes()
        asking = asyncio.create_task(asked(server.port, begun))
        await begun.wait()
        async with probes.watching(server.port):
            server.signal(signal.SIGTERM)
            seen = await asking
            code, _ = await asyncio.to_thread(server.ended, 20)
        return expected_, seen, probes, code

    with unroll_serve(str(checkpoint_folder), *flags, core=None) as server:
        expected_, seen, probes, code = asyncio.run(stopped())
    assert all(one.whole and one.finish == "length" for one in seen)
    assert [one.text for one in seen] == [one.text for one in expected_]
    assert (probes.again, probes.wrong, probes.live, code) == (0, [], {200}, 0)
    assert probes.flipped is not None
