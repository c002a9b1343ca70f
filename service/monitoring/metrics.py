"""GET /metrics: the counts of the engine and of the HTTP server, as Prometheus reads them."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import PlainTextResponse

from service.api.openapi import errors
from service.engine.counters import LATENCIES, Counters, Histogram
from service.engine.engine import Engine
from service.inference.constraints import ConstraintCounts
from service.models.model_registry import Allowed, ModelRegistry
from service.monitoring import logs
from service.monitoring.metric_families import counter, gauge, histogram, labelled_counter, labelled_histogram
from service.monitoring.model_metrics import of_models
from service.monitoring.shared_answer import SharedAnswer
from service.monitoring.whole_metrics import snapshot, whole
from service.process.ledger import Ledger
from service.request_context import request_context
from service.siblings.siblings import Siblings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Why a request was refused, by the code of its error. The engine counts its own refusals; any other code is an
# error of an accepted request.
BY_CODE = {
    "rate_limit_exceeded": "rate",
    "too_many_open_requests": "concurrency",
    "invalid_api_key": "key",
    "unknown_host": "host",
    "too_many_connections": "connections",
    "body_too_large": "too_large",
    "too_costly": "too_large",
    "out_of_memory": "memory",
    "headers_too_large": "too_large",
    "body_too_slow": "slow",
    "headers_too_slow": "slow",
    "malformed_request": "malformed",
    "invalid_value": "invalid",
    "unsupported_media_type": "invalid",
    "not_found": "not_found",
    "method_not_allowed": "not_found",
    "model_not_found": "not_found",
    "model_version_gone": "not_found",
}


class _Collected(Collector):
    """A collector of the metrics that a function yields."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        """Call it."""
        return self._collect()


class Metrics:
    """The metrics of one application; for the event loop's thread.

    ready: whether the server is ready. siblings: the processes behind its port, if there are several.
    connections: how many are open; None if unknown.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        engine: Engine,
        ledger: Ledger,
        ready: Callable[[], bool],
        siblings: Siblings | None = None,
    ) -> None:
        self._models = registry
        self._engine = engine
        self._constraints = registry.constraints.counts
        self._ledger = ledger
        self._ready = ready
        self._siblings = siblings
        self._answer = SharedAnswer(self._whole)
        self.connections: Callable[[], int] | None = None
        self.requests: dict[tuple[str, int], int] = {}
        self.rejected = dict.fromkeys(BY_CODE.values(), 0)
        self.seconds: dict[str, Histogram] = {}
        elsewhere = CollectorRegistry()  # they have to be in one; each answer makes its own
        self._process: list[Collector] = [
            collector(registry=elsewhere) for collector in (ProcessCollector, PlatformCollector, GCCollector)
        ]

    def answered(self, route: str, status: int, seconds: float, code: str | None = None) -> None:
        """Count an answer that has ended, `seconds` after its request arrived.

        code: of its error, if it is one.
        """
        self.requests[route, status] = self.requests.get((route, status), 0) + 1
        if route not in self.seconds:
            self.seconds[route] = Histogram(LATENCIES)
        self.seconds[route].observe(seconds)
        if code is not None:
            self.refused(code)

    def refused(self, code: str) -> None:
        """Count a refusal by the code of its error, also for a connection without a request; ignores other codes."""
        reason = BY_CODE.get(code)
        if reason is not None:
            self.rejected[reason] += 1

    def render(self, allowed: Allowed = None, others: Sequence[bytes] = ()) -> bytes:
        """All metrics in Prometheus' text format 0.0.4; of models, only those that a key may use.

        others: snapshots of other processes, whose counts are added.
        """
        own = self._own(allowed)
        if not others:
            return generate_latest(own)
        registry = CollectorRegistry()
        registry.register(_Collected(lambda: whole(own.collect(), others)))
        return generate_latest(registry)

    def snapshot(self) -> bytes:
        """All metrics of this process, for another one."""
        return snapshot(self._own(None).collect())

    def _own(self, allowed: Allowed) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(_Collected(partial(self.collect, allowed)))
        for collector in self._process:
            registry.register(collector)
        return registry

    async def show(self, request: Request) -> PlainTextResponse:
        """Metrics for Prometheus; their names begin with unroll_, process_ and python_."""
        text = await self._answer.get(request_context(request.scope).models)
        return PlainTextResponse(text, headers={"Content-Type": CONTENT_TYPE})

    async def _whole(self, allowed: Allowed) -> bytes:
        others: list[bytes] = []
        if self._siblings is not None:
            others = await self._siblings.snapshots.of_others(self._siblings.serves)
        return self.render(allowed, others)

    def collect(self, allowed: Allowed = None) -> Iterator[Metric]:
        """Every metric of Unroll as it is now."""
        yield from of_models(self._models, allowed)
        yield from self._gauges()
        yield from self._http()
        yield from _of_texts(self._engine.counters)
        yield from _of_steps(self._engine.counters)
        cache = self._engine.cache.statistics
        yield counter("prefix_cache_queries", "Prompts looked up in the prefix cache.", cache.queries)
        yield counter("prefix_cache_hits", "Prompts of which it had a beginning.", cache.hits)
        yield gauge("prefix_cache_bytes", "Bytes it holds.", cache.bytes)
        yield from _of_constraints(self._constraints)
        ledger = self._ledger
        yield gauge("memory_budget_bytes", "Bytes all requests together may hold.", ledger.budget)
        yield gauge("memory_held_bytes", "Bytes they are charged for now.", ledger.held)
        yield gauge("memory_most_held_bytes", "The most they were ever charged for at once.", ledger.most)
        yield counter("memory_refusals", "Charges refused because memory was short.", ledger.refused)
        yield counter("log_failures", "Lines of the log that could not be written.", logs.failures())

    def _gauges(self) -> Iterator[Metric]:
        engine = self._engine
        alive = 1 if self._siblings is None else self._siblings.alive
        yield gauge("processes", "Processes behind the port that serve.", alive)
        yield gauge("ready", "1 while the server calls itself ready, else 0.", float(self._ready()))
        yield gauge("requests_running", "Texts that have a slot.", engine.running)
        yield gauge("requests_waiting", "Texts that wait for a slot.", engine.waiting)
        yield gauge("threads", "Threads that generate and are alive.", engine.threads)
        progressed = time.time() - (time.monotonic() - engine.progressed)
        about = "Unix time of the last turn of the engine's slowest thread; now while there is nothing to do."
        yield gauge("last_progress_timestamp_seconds", about, progressed)
        if self.connections is not None:
            yield gauge("connections_open", "Connections that are open.", self.connections())

    def _http(self) -> Iterator[Metric]:
        about = "Answers that have ended, by the route's template and status; 499 was given up before it began."
        requests = CounterMetricFamily("unroll_requests", about, labels=("route", "code"))
        for (route, status), count in self.requests.items():
            requests.add_metric((route, str(status)), count)
        yield requests
        rejected: dict[Any, int] = {**self._engine.counters.refused, **self.rejected}
        yield labelled_counter("requests_rejected", "Requests and connections refused, by reason.", "reason", rejected)
        about = "Seconds from a request's arrival to the last byte of its answer."
        yield labelled_histogram("request_seconds", about, self.seconds)


def _of_constraints(counts: ConstraintCounts) -> Iterator[Metric]:
    """How compiled patterns and schemas are found again."""
    yield counter("constraint_queries", "Patterns and schemas looked up in the cache of compiled ones.", counts.queries)
    yield counter("constraint_hits", "Patterns and schemas that were compiled before.", counts.hits)
    yield counter("constraint_evictions", "Compiled ones that left the cache for others.", counts.evictions)
    yield gauge("constraint_cache_bytes", "Bytes it holds.", counts.bytes)
    about = "Seconds that each took to be compiled or refused, once it had its turn."
    yield histogram("constraint_compile_seconds", about, counts.seconds)


def _of_texts(counters: Counters) -> Iterator[Metric]:
    """How the texts have ended."""
    about = "Texts that have ended, by how; their sum is the number of texts that were taken once all have ended."
    yield labelled_counter("request_finished", about, "reason", counters.finished)
    yield counter("texts_submitted", "Texts that were taken.", counters.submitted)
    yield counter("prompt_tokens", "Characters of the prompts that were taken.", counters.prompt_tokens)
    about = "Characters drawn, up to each text's end; of a text that was given up, until its slot was free."
    yield counter("generation_tokens", about, counters.tokens)
    about = "Characters of prompts that never occurred in training."
    yield counter("oov_characters", about, counters.unseen)


def _of_steps(counters: Counters) -> Iterator[Metric]:
    """How fast the texts are written."""
    about = "Seconds from a request's arrival, before its body, until the first character of each text is drawn."
    yield histogram("time_to_first_token_seconds", about, counters.histogram("first_token"))
    about = "Seconds between two characters of one text as they are drawn."
    yield histogram("inter_token_latency_seconds", about, counters.histogram("inter_token"))
    about = "Seconds from a prompt's submission until it has a slot."
    yield histogram("request_queue_seconds", about, counters.histogram("queued"))
    yield histogram("batch_size", "Texts in each decode step.", counters.histogram("batch_size"))
    yield histogram("step_seconds", "Seconds of each decode step.", counters.histogram("step_seconds"))
    yield counter("step_failures", "Calls of the model that failed.", counters.failures)


def router(metrics: Metrics) -> APIRouter:
    """The route of metrics."""
    routes = APIRouter()
    routes.add_api_route(
        "/metrics",
        metrics.show,
        methods=["GET"],
        tags=["operation"],
        summary="Tell Prometheus what was counted",
        response_class=PlainTextResponse,
        responses=errors(),
    )
    return routes
