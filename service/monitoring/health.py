"""How the server is, for those who look after it: alive, ready for more, and in detail."""

import time
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from service.api.openapi import errors
from service.engine.engine import Engine
from service.process.ledger import Ledger
from service.request_context import request_context
from service.settings import Settings

Word = Literal["ok", "draining", "stalled", "failed"]

# A stall so many times as long as one that ends the readiness ends the server's life, where somebody looks: a step of
# the slowest network is over long before, so the thread hangs, and only a restart helps.
HOPELESS = 6


class PrefixCacheCounts(BaseModel):
    """How much the states kept after earlier prompts have helped since the server started."""

    queries: int = Field(ge=0, description="Prompts that were looked up.")
    hits: int = Field(ge=0, description="Those of which a beginning was found.")
    cached_tokens: int = Field(ge=0, description="Tokens that were not read again.")
    evictions: int = Field(ge=0, description="States given up to make room.")
    entries: int = Field(ge=0, description="States kept now.")
    bytes: int = Field(ge=0, description="The memory they take.")


class MemoryCounts(BaseModel):
    """The ledger of what all requests hold together."""

    budget_bytes: int = Field(ge=0, description="What they may hold.")
    held_bytes: int = Field(ge=0, description="What they are charged for now.")
    refused: int = Field(ge=0, description="Charges that were refused since the server started.")


class State(BaseModel):
    """How the server is, in a word."""

    status: Literal[Word, "loading"] = Field(
        description="Anything but ok, or of a live server any word, comes with 503."
    )


class Health(State):
    """Whether the server can write text, and how busy it is."""

    model: str = Field(description="The name of the model that is served.")
    running: int = Field(ge=0, description="Texts being written, side by side.")
    waiting: int = Field(ge=0, description="Texts waiting for a slot, or for their prompt to be read by another.")
    still_seconds: float = Field(ge=0, description="How long work has waited for the step before the next.")
    failures: int = Field(ge=0, description="Calls of the model that failed since the server started.")
    prefix_cache: PrefixCacheCounts | None = Field(
        default=None, description="Not without a key where the server needs one: it tells of other people's prompts."
    )
    memory: MemoryCounts | None = Field(
        default=None, description="Not without a key where the server needs one: it tells of other people's requests."
    )


class Condition:
    """What the engine's condition is called.

    stall_seconds: how long work may wait for a step until the engine counts as stalled.
    """

    def __init__(self, engine: Engine, stall_seconds: float) -> None:
        self._engine = engine
        self._stall_seconds = stall_seconds

    @property
    def still_seconds(self) -> float:
        """How long there has been work and no thread has ended a turn of it; 0 where there is no work."""
        return max(0.0, time.monotonic() - self._engine.progressed)

    @property
    def word(self) -> Word:
        """What keeps the server from working, if anything does."""
        status = self._engine.status
        return "stalled" if status != "failed" and self.still_seconds > self._stall_seconds else status

    @property
    def ready(self) -> bool:
        """Whether to send requests here."""
        return self.word == "ok"

    @property
    def live(self) -> bool:
        """Whether anything but a restart can help, if help is needed."""
        return self._engine.status != "failed" and self.still_seconds <= HOPELESS * self._stall_seconds


class Reports:
    """Answers how the server is; none of them waits for anything."""

    def __init__(self, name: str, engine: Engine, ledger: Ledger, settings: Settings) -> None:
        self._name = name
        self._engine = engine
        self._ledger = ledger
        self._open = settings.api_keys is None and settings.api_keys_file is None
        self.condition = Condition(engine, settings.stall_seconds)

    async def live(self) -> JSONResponse:
        """Whether the server runs. Also while it stops, and while it waits; 503 is a reason to restart it."""
        return _answer(State(status=self.condition.word), self.condition.live)

    async def ready(self) -> JSONResponse:
        """Whether the server takes requests: not while it loads, stops, or has work and makes no step."""
        return _answer(State(status=self.condition.word), self.condition.ready)

    async def health(self, request: Request) -> JSONResponse:
        """Whether the server takes requests, and how many texts it writes and has waiting; with a key, also memory."""
        engine, condition = self._engine, self.condition
        health = Health(
            status=condition.word,
            model=self._name,
            running=engine.running,
            waiting=engine.waiting,
            still_seconds=condition.still_seconds,
            failures=engine.failures,
        )
        if self._open or request_context(request.scope).holder is not None:
            ledger = self._ledger
            health.prefix_cache = PrefixCacheCounts(**engine.cache.statistics._asdict())
            health.memory = MemoryCounts(budget_bytes=ledger.budget, held_bytes=ledger.held, refused=ledger.refused)
        return _answer(health, condition.ready)


def _answer(body: State, well: bool) -> JSONResponse:
    return JSONResponse(body.model_dump(exclude_none=True), 200 if well else 503)


def router(reports: Reports) -> APIRouter:
    """The routes that tell how the server is."""
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
