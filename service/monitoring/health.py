"""The health of the server for its operators: whether it is alive, whether it is ready, and details."""

import time
from collections.abc import Iterable
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from service.api.openapi import errors
from service.engine.engine import Engine
from service.models.model_registry import ModelRegistry
from service.process.ledger import Ledger
from service.request_context import request_context
from service.settings import Settings
from service.siblings.board import Vitals
from service.siblings.siblings import Siblings

Word = Literal["ok", "draining", "stalled", "failed", "out_of_memory"]

# A stall this many times as long as one that ends readiness ends liveness: even the slowest network makes a step
# much earlier, so the thread hangs, and only a restart helps.
HOPELESS = 6


class PrefixCacheCounts(BaseModel):
    """The prefix cache since the server started."""

    queries: int = Field(ge=0, description="Prompts that were looked up.")
    hits: int = Field(ge=0, description="Prompts of which a beginning was found.")
    cached_tokens: int = Field(ge=0, description="Tokens that were not read again.")
    evictions: int = Field(ge=0, description="States removed to make room.")
    entries: int = Field(ge=0, description="States stored now.")
    bytes: int = Field(ge=0, description="Memory of these states.")


class MemoryCounts(BaseModel):
    """The ledger of what all requests hold together."""

    budget_bytes: int = Field(ge=0, description="What they may hold.")
    held_bytes: int = Field(ge=0, description="What they are charged for now.")
    refused: int = Field(ge=0, description="Charges that were refused since the server started.")


class ModelCounts(BaseModel):
    """The models."""

    served: int = Field(ge=0, description="Models that can be asked for.")
    loaded: int = Field(ge=0, description="Of them, those in memory.")
    bytes: int = Field(ge=0, description="Memory of all models, also of those whose last texts are being written.")
    problems: dict[str, str] = Field(
        description="Why a checkpoint is not served, or not in its newest version, by its name."
    )


class State(BaseModel):
    """The condition of the server, in a word."""

    status: Literal[Word, "loading"] = Field(
        description="Anything but ok, or of a live server any word, comes with 503."
    )


class Health(State):
    """Whether the server can write text, and how busy it is."""

    model: str | None = Field(
        default=None,
        description="The model of requests that name none; of a key that may use some models, the first of these.",
    )
    running: int = Field(ge=0, description="Texts being written.")
    waiting: int = Field(ge=0, description="Texts waiting for a slot, or for another text to read their prompt.")
    still_seconds: float = Field(ge=0, description="How long there has been work without a step being made.")
    failures: int = Field(ge=0, description="Calls of the model that failed since the server started.")
    processes: int | None = Field(
        default=None, description="Processes that serve, where there are several; the numbers are of all together."
    )
    prefix_cache: PrefixCacheCounts | None = Field(
        default=None, description="Only with a key if the server needs one, as it tells about prompts of others."
    )
    models: ModelCounts | None = Field(
        default=None, description="Only with a key for all models if the server needs one, as it tells of files."
    )
    memory: MemoryCounts | None = Field(
        default=None, description="Only with a key if the server needs one, as it tells about requests of others."
    )


class Condition:
    """Decides whether the engine is healthy, ready and alive.

    ledger: of the memory that requests are charged for. stall_seconds: how long work may wait for a step until the
    engine counts as stalled.
    """

    def __init__(self, engine: Engine, ledger: Ledger, stall_seconds: float) -> None:
        self._engine = engine
        self._ledger = ledger
        self._stall_seconds = stall_seconds

    @property
    def still_seconds(self) -> float:
        """Seconds for which there has been work and no thread has ended a turn; 0 if there is no work."""
        return max(0.0, time.monotonic() - self._engine.progressed)

    @property
    def word(self) -> Word:
        """What keeps the server from working, if anything."""
        status = self._engine.status
        if status != "failed" and self.still_seconds > self._stall_seconds:
            return "stalled"
        return "out_of_memory" if status == "ok" and self._ledger.exhausted else status

    @property
    def ready(self) -> bool:
        """Whether to send requests here."""
        return self.word == "ok"

    @property
    def live(self) -> bool:
        """Whether anything but a restart can help, if help is needed."""
        return self._engine.status != "failed" and self.still_seconds <= HOPELESS * self._stall_seconds


class Reports:
    """Answers the health routes; answers never wait for anything."""

    def __init__(
        self,
        registry: ModelRegistry,
        engine: Engine,
        ledger: Ledger,
        settings: Settings,
        siblings: Siblings | None = None,
    ) -> None:
        self._registry = registry
        self._siblings = siblings
        self._engine = engine
        self._ledger = ledger
        self._open = settings.api_keys is None and settings.api_keys_file is None
        self.condition = Condition(engine, ledger, settings.stall_seconds)

    async def live(self) -> JSONResponse:
        """Whether the server runs, which it does also while it stops or is busy; 503 is a reason to restart it."""
        return _answer(State(status=self.condition.word), self.condition.live)

    async def ready(self) -> JSONResponse:
        """Whether the server takes requests: not while it loads, stops, has no memory left, or makes no step."""
        word = self._word(self._others())
        return _answer(State(status=word), word == "ok")

    def vitals(self) -> Vitals:
        """The condition of this process, for the others behind its port."""
        engine, condition, cache = self._engine, self.condition, self._engine.cache.statistics
        return Vitals(
            beat=time.monotonic(),
            stalled=condition.word == "stalled",
            still=condition.still_seconds,
            running=engine.running,
            waiting=engine.waiting,
            failures=engine.failures,
            queries=cache.queries,
            hits=cache.hits,
            cached_tokens=cache.cached_tokens,
            evictions=cache.evictions,
            entries=cache.entries,
            cache_bytes=cache.bytes,
            model_bytes=self._registry.memory_bytes,
        )

    def _others(self) -> list[Vitals]:
        return [] if self._siblings is None else self._siblings.board.others(time.monotonic())

    def _word(self, others: list[Vitals]) -> Word:
        """What keeps the server from working, in this process or in another that should make steps but makes none. A
        process that starts or stops takes no requests, so the others do."""
        word = self.condition.word
        return "stalled" if word == "ok" and any(other.stalled for other in others) else word

    async def health(self, request: Request) -> JSONResponse:
        """Whether the server takes requests, and how many texts it writes and has waiting; with a key, also memory."""
        context, others = request_context(request.scope), self._others()
        all_ = [self.vitals(), *others]
        word = self._word(others)
        health = Health(
            status=word,
            model=self._registry.default_name(context.models),
            running=_sum(one.running for one in all_),
            waiting=_sum(one.waiting for one in all_),
            still_seconds=max(one.still for one in all_),
            failures=_sum(one.failures for one in all_),
            processes=None if self._siblings is None else len(all_),
        )
        if self._open or context.holder is not None:
            ledger = self._ledger
            health.prefix_cache = _cache(all_)
            if context.models is None:
                health.models = self._models(_sum(one.model_bytes for one in all_))
            health.memory = MemoryCounts(budget_bytes=ledger.budget, held_bytes=ledger.held, refused=ledger.refused)
        return _answer(health, word == "ok")

    def _models(self, size: int) -> ModelCounts:
        entries, registry = list(self._registry), self._registry
        loaded = sum(entry.served is not None for entry in entries)
        return ModelCounts(served=len(entries), loaded=loaded, bytes=size, problems=dict(registry.problems))


def _cache(all_: list[Vitals]) -> PrefixCacheCounts:
    """The prefix caches of all processes together."""
    return PrefixCacheCounts(
        queries=_sum(one.queries for one in all_),
        hits=_sum(one.hits for one in all_),
        cached_tokens=_sum(one.cached_tokens for one in all_),
        evictions=_sum(one.evictions for one in all_),
        entries=_sum(one.entries for one in all_),
        bytes=_sum(one.cache_bytes for one in all_),
    )


def _sum(numbers: Iterable[float]) -> int:
    return int(sum(numbers))


def _answer(body: State, well: bool) -> JSONResponse:
    return JSONResponse(body.model_dump(exclude_none=True), 200 if well else 503)


def router(reports: Reports) -> APIRouter:
    """The health routes."""
    routes = APIRouter()
    for path, answer, body, summary in (
        ("/health", reports.health, Health, "Tell how the server is"),
        ("/health/live", reports.live, State, "Tell whether it runs"),
        ("/health/ready", reports.ready, State, "Tell whether it takes requests"),
    ):
        unwell = {"model": body, "description": "It is not; `status` says why."}
        routes.add_api_route(
            path,
            answer,
            methods=["GET"],
            tags=["operation"],
            summary=summary,
            response_model=body,
            responses={503: unwell, **errors()},
        )
    return routes
