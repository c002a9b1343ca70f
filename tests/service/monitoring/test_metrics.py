"""What /metrics says adds up: with what clients saw, with what usage says, and with itself."""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.decoding.decoder import Decoder
from model.decoding.rows import Drawn, Rows, Slots
from service.engine.counters import LATENCIES, STEPS, Histogram, WorkerCounters
from service.engine.engine import Engine
from service.models.model_registry import ModelRegistry
from service.monitoring.metrics import Metrics
from service.process.ledger import Ledger
from service.settings import Settings
from tests.pace import loops
from tests.service.fragile import FragileDecoder
from tests.service.serving import ENDLESS, Running, SlowDecoder, SlowRows, eventually, serving

COMPLETIONS = "/v1/completions"
Labels = frozenset[tuple[str, str]]


@pytest.fixture(scope="module")
def quick(checkpoint_folder: Path) -> Iterator[Running]:
    """A server for the tests that compare before and after."""
    with serving(Settings(checkpoint=checkpoint_folder, max_rows=4, max_body_bytes=10_000)) as running:
        yield running


class Samples:
    """What /metrics says, read by Prometheus' own parser."""

    def __init__(self, running: Running) -> None:
        response = running.client.get("/metrics")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.kinds = {family.name: family.type for family in text_string_to_metric_families(response.text)}
        self.values: dict[tuple[str, Labels], float] = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }

    def of(self, name: str, **labels: str) -> float:
        """One sample, of which there has to be one."""
        return self.values[f"unroll_{name}", frozenset(labels.items())]

    def sum(self, name: str) -> float:
        """All samples of a name together."""
        return sum(value for (one, _), value in self.values.items() if one == f"unroll_{name}")

    def answers(self) -> Counter[tuple[str, str]]:
        """How many answers of each route and status, /metrics itself left out."""
        counts: Counter[tuple[str, str]] = Counter()
        for (name, labels), value in self.values.items():
            given = dict(labels)
            if name == "unroll_requests_total" and given["route"] != "/metrics":
                counts[given["route"], given["code"]] = int(value)
        return counts


def settled(running: Running) -> Samples:
    """What /metrics says once every text has ended."""
    assert eventually(
        lambda: (now := Samples(running)).sum("request_finished_total") == now.of("texts_submitted_total")
    )
    return Samples(running)


def test_answers_are_counted_as_clients_saw_them(quick: Running) -> None:
    before = Samples(quick).answers()
    asked: list[tuple[str, str, str, Any]] = [
        ("POST", COMPLETIONS, COMPLETIONS, {"json": {"prompt": "a"}}),
        ("POST", COMPLETIONS, COMPLETIONS, {"json": {"prompt": "a", "stream": True}}),
        ("POST", COMPLETIONS, COMPLETIONS, {"json": {"prompt": 1}}),
        ("POST", COMPLETIONS, COMPLETIONS, {"json": {"prompt": "a" * 20_000}}),
        ("GET", COMPLETIONS, COMPLETIONS, {}),
        ("GET", "/v1/models/nobody/knows", "/v1/models/{model:path}", {}),
        ("POST", "/tokenize", "/tokenize", {"json": {"prompt": "a"}}),
        ("GET", "/health", "/health", {}),
        *(("GET", f"/nothing/{number}", "other", {}) for number in range(20)),
    ]
    saw: Counter[tuple[str, str]] = Counter()
    for method, path, route, fields in asked:
        saw[route, str(quick.client.request(method, path, **fields).status_code)] += 1
    assert saw["other", "404"] == 20
    assert eventually(lambda: Samples(quick).answers() - before == saw)


def test_refusals_are_counted_by_reason_once(quick: Running) -> None:
    before = Samples(quick)
    quick.client.post(COMPLETIONS, json={"prompt": 1})
    quick.client.post(COMPLETIONS, content=b"a" * 20_000)
    quick.client.get("/nothing")
    after = Samples(quick)
    for reason in ("invalid", "too_large", "not_found"):
        name = "requests_rejected_total"
        assert after.of(name, reason=reason) - before.of(name, reason=reason) == 1, reason
    assert after.sum("requests_rejected_total") - before.sum("requests_rejected_total") == 3


def test_compiled_patterns_are_counted(quick: Running) -> None:
    before = Samples(quick)
    for pattern in ("[ab]{3}", "[ab]{4}", "[ab]{3}", "(", "[ab]{3}"):
        quick.client.post(COMPLETIONS, json={"prompt": "a", "guided_regex": pattern})
    after = Samples(quick)

    def change(name: str) -> float:
        return after.of(f"constraint_{name}") - before.of(f"constraint_{name}")

    assert (change("queries_total"), change("hits_total"), change("evictions_total")) == (5, 2, 0)
    assert change("compile_seconds_count") == 3
    assert change("compile_seconds_sum") > 0
    assert change("cache_bytes") > 0


def test_tokens_are_those_that_usage_says(quick: Running) -> None:
    before, answers = Samples(quick), []
    stop = quick.complete("ab", max_tokens=40, seed=1)["choices"][0]["text"][5:7]
    for fields in (
        {"prompt": ["ab", "b"], "n": 3, "max_tokens": 50},
        {"prompt": "ab", "max_tokens": 40, "seed": 1, "stop": stop},
        {"prompt": "☃a", "max_tokens": 0},
        {"prompt": "ab", "max_tokens": 7, "best_of": 4},
        {"prompt": "ab", "max_tokens": 5, "echo": True, "logprobs": 1},
    ):
        answers.append(quick.complete(**fields)["usage"])
    after = settled(quick)
    drawn = 40 + sum(usage["completion_tokens"] for usage in answers)
    assert after.of("generation_tokens_total") - before.of("generation_tokens_total") == drawn
    read = 2 + sum(usage["prompt_tokens"] for usage in answers)
    assert after.of("prompt_tokens_total") - before.of("prompt_tokens_total") == read
    assert after.of("oov_characters_total") - before.of("oov_characters_total") == 1
    ended = {reason: after.of("request_finished_total", reason=reason) for reason in ("stop", "length", "abort")}
    assert ended["stop"] - before.of("request_finished_total", reason="stop") == 1
    assert ended["length"] - before.of("request_finished_total", reason="length") == 1 + 6 + 1 + 4 + 1
    assert ended["abort"] == before.of("request_finished_total", reason="abort")


def test_histograms_count_every_token_and_text(quick: Running) -> None:
    before = Samples(quick)
    quick.complete("ab", max_tokens=300)
    after = Samples(quick)
    grew = {name: after.of(f"{name}_count") - before.of(f"{name}_count") for name in ("batch_size", "step_seconds")}
    assert grew == {"batch_size": 300, "step_seconds": 300}
    assert after.of("batch_size_sum") - before.of("batch_size_sum") == 300
    for name, count in (
        ("time_to_first_token_seconds", 1),
        ("inter_token_latency_seconds", 299),
        ("request_queue_seconds", 1),
    ):
        assert after.of(f"{name}_count") - before.of(f"{name}_count") == count, name
        assert after.of(f"{name}_sum") > before.of(f"{name}_sum")
        assert ("unroll_" + name + "_bucket", frozenset({("le", "0.0001")})) in after.values


def test_the_first_token_s_time_begins_with_the_request_and_not_with_its_text(checkpoint_folder: Path) -> None:
    body = b'{"prompt": "ab", "max_tokens": 1}'

    def slowly() -> Iterator[bytes]:
        yield body[:10]
        time.sleep(0.3)
        yield body[10:]

    with serving(Settings(checkpoint=checkpoint_folder)) as running:
        headers = {"content-type": "application/json"}
        assert running.client.post(COMPLETIONS, content=slowly(), headers=headers).status_code == 200
        now = Samples(running)
    waited, first = now.of("request_queue_seconds_sum"), now.of("time_to_first_token_seconds_sum")
    assert first >= 0.25 + waited  # the server hears of the headers a moment after they were sent
    assert now.of("request_seconds_sum", route=COMPLETIONS) > first


def test_texts_that_are_given_up_or_refused_are_counted(slow_server: Running) -> None:
    fields = {"prompt": "a", "max_tokens": ENDLESS, "n": 6}
    with slow_server.client.stream("POST", COMPLETIONS, json={**fields, "stream": True}) as response:
        body = response.iter_raw()
        next(body)
        during = Samples(slow_server)
        assert (during.of("requests_running"), during.of("requests_waiting")) == (4, 2)
        assert slow_server.client.post(COMPLETIONS, json=fields).status_code == 429
    after = settled(slow_server)
    assert after.of("request_finished_total", reason="abort") == 6
    assert after.of("requests_rejected_total", reason="queue_full") == 1
    assert after.answers() == {(COMPLETIONS, "200"): 1, (COMPLETIONS, "429"): 1}
    assert after.of("generation_tokens_total") == after.of("batch_size_sum") > 0
    assert (after.of("requests_running"), after.of("requests_waiting")) == (0, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_that_is_late_ends_by_its_deadline(stream: bool, checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, deadline_seconds=0.2)
    with serving(settings, SlowDecoder) as running:
        running.client.post(COMPLETIONS, json={"prompt": "a", "max_tokens": ENDLESS, "n": 2, "stream": stream})
        assert settled(running).of("request_finished_total", reason="deadline") == 2


def test_a_failed_call_is_counted(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder), FragileDecoder) as running:
        assert running.client.post(COMPLETIONS, json={"prompt": "月", "n": 2}).status_code == 500
        now = settled(running)
    assert now.of("request_finished_total", reason="error") == 2
    assert now.of("step_failures_total") == 1
    assert now.of("generation_tokens_total") == 0
    assert now.of("requests_total", route=COMPLETIONS, code="500") == 1
    assert now.sum("requests_rejected_total") == 0


def test_counters_add_up_over_threads_and_clients(checkpoint_folder: Path) -> None:
    with (
        serving(Settings(checkpoint=checkpoint_folder, threads=2, max_rows=8)) as running,
        ThreadPoolExecutor(8) as pool,
    ):
        prompts = ["ab", "b", "☃", ""] * 10
        answers = list(pool.map(lambda prompt: running.complete(prompt, n=3, max_tokens=30), prompts))
        now = settled(running)
    assert now.of("texts_submitted_total") == now.of("request_finished_total", reason="length") == 120
    assert now.of("generation_tokens_total") == sum(one["usage"]["completion_tokens"] for one in answers) == 3600
    assert now.of("prompt_tokens_total") == sum(one["usage"]["prompt_tokens"] for one in answers)
    assert now.of("time_to_first_token_seconds_count") == 120
    assert now.of("threads") == 2


class StuckRows(SlowRows):
    """Rows that draw nothing until they are let go."""

    free = threading.Event()

    def draw(self, slots: Slots, steps: int) -> Drawn:
        assert self.free.wait(30)
        return super().draw(slots, steps)


class StuckDecoder(Decoder):
    """A decoder of such rows."""

    def rows(self, slots: int) -> Rows:
        return StuckRows(super().rows(slots))


def test_progress_is_now_while_idle_and_stands_still_with_the_engine(checkpoint_folder: Path) -> None:
    with (
        serving(Settings(checkpoint=checkpoint_folder, threads=2), StuckDecoder) as running,
        ThreadPoolExecutor() as pool,
    ):
        assert eventually(lambda: time.monotonic() - running.engine.progressed < 0.1)
        assert abs(Samples(running).of("last_progress_timestamp_seconds") - time.time()) < 5
        answer = pool.submit(running.complete, "a", max_tokens=3)
        assert eventually(lambda: time.monotonic() - running.engine.progressed > 0.3)
        assert eventually(lambda: time.monotonic() - running.engine.progressed > 0.6)
        StuckRows.free.set()
        assert answer.result()["usage"]["completion_tokens"] == 3
        began = time.monotonic()
        answer = pool.submit(running.complete, "a", max_tokens=1_000)

        def goes_on() -> bool:
            working, behind = running.engine.running == 1, time.monotonic() - running.engine.progressed
            return time.monotonic() - began > 1 and working and behind < 0.5

        assert eventually(goes_on)
        answer.result()
        assert eventually(lambda: time.monotonic() - running.engine.progressed < 0.1)


def test_each_application_counts_for_itself(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder)
    with serving(settings) as one, serving(settings) as other:
        one.complete("ab")
        assert Samples(one).of("texts_submitted_total") == 1
        assert Samples(other).of("texts_submitted_total") == 0


def test_names_and_labels_are_bounded(quick: Running) -> None:
    for number in range(30):
        quick.client.post(COMPLETIONS, json={"prompt": "a", "model": f"model{number}", "user": f"user{number}"})
        quick.client.get(f"/v1/models/model{number}")
        quick.client.request("PRO" + "X" * number, "/health", headers={"X-Request-Id": f"name{number}"})
    now = Samples(quick)
    assert {name.partition("_")[0] for name in now.kinds} == {"unroll", "process", "python"}
    assert len({labels for name, labels in now.values if name == "unroll_requests_total"}) < 20
    assert not any(value[-1].isdigit() for _, labels in now.values for key, value in labels if key == "route")
    (model,) = [dict(labels) for name, labels in now.values if name == "unroll_model_info"]
    assert model.keys() == {"model", "version", "sha", "digest", "vocab", "params"}
    assert now.of("ready") == 1


def test_telling_takes_as_long_as_a_loop_of_half_a_million_additions_at_most(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, threads=4)
    engine = Engine(settings)
    metrics = Metrics(ModelRegistry(settings, engine), engine, Ledger(1 << 20), lambda: True)
    for route in range(25):
        for status in (200, 400, 429, 503):
            metrics.answered(f"/route{route}", status, 0.01)
    seconds = []
    for _ in range(20):
        began = time.thread_time()
        assert len(metrics.render()) > 40_000
        seconds.append(time.thread_time() - began)
    assert min(seconds) < loops(2.5)


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 128])
def test_a_request_keeps_the_name_it_comes_with(given: str, quick: Running) -> None:
    for path in ("/health", "/nothing", COMPLETIONS):
        assert quick.client.get(path, headers={"X-Request-Id": given}).headers["X-Request-Id"] == given
    named = quick.client.post(COMPLETIONS, json={"prompt": "a"}, headers={"X-Request-Id": given})
    assert (named.headers["X-Request-Id"], named.json()["id"]) == (given, f"cmpl-{given}")


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ü", 'a"', None])
def test_a_request_with_no_name_or_a_strange_one_gets_a_new_one(given: str | None, quick: Running) -> None:
    headers = {} if given is None else {"X-Request-Id": given.encode("latin-1")}
    names = {quick.client.get("/nothing", headers=headers).headers["X-Request-Id"] for _ in range(3)}  # type: ignore[arg-type]
    assert len(names) == 3
    assert given not in names


def test_the_name_in_the_body_wins(quick: Running) -> None:
    for stream in (False, True):
        fields = {"prompt": "a", "request_id": "of-the-body", "stream": stream}
        response = quick.client.post(COMPLETIONS, json=fields, headers={"X-Request-Id": "of-the-header"})
        assert response.headers.get_list("X-Request-Id") == ["of-the-body"]


def test_a_lane_counts_a_call_as_its_parts() -> None:
    worker = WorkerCounters()
    worker.decoded(rows=2, steps=4, seconds=0.004, now=10.0, since=0.0, arrivals=[9.0, 9.5], beyond=0)
    worker.decoded(rows=3, steps=2, seconds=0.002, now=10.01, since=10.0, arrivals=[10.0], beyond=1)
    assert worker.tokens == 8 + 6 - 1
    assert (sum(worker.batch_size.counts), worker.batch_size.total) == (6, 2 * 4 + 3 * 2)
    assert math.isclose(worker.step_seconds.total, 0.006)
    assert (sum(worker.first_token.counts), round(worker.first_token.total, 9)) == (3, 1.51)
    # six of the first call at 1 ms, four of two rows that went on for 10 ms, one of the new row at 1 ms
    assert sum(worker.inter_token.counts) == 11
    assert math.isclose(worker.inter_token.total, 6 * 0.001 + 4 * 0.005 + 0.001)


def test_a_value_counts_at_or_below_its_bound() -> None:
    histogram = Histogram(LATENCIES)
    for value in (*LATENCIES, 0.0, 1e9):
        histogram.observe(value)
    assert histogram.counts == [2, *([1] * (len(LATENCIES) - 1)), 1]
    assert LATENCIES[0] == 1e-4
    assert STEPS[0] == 1e-5
