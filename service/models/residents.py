"""Which models are in memory: loaded when they are asked for, and taken out, least recently used first, for others."""

import asyncio
import logging
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial

from model.errors import UnrollError
from service.engine.sequence import EngineModel
from service.errors import ModelUnavailable
from service.inference.served_model import ServedModel
from service.models.model_entry import ModelEntry

logger = logging.getLogger(__name__)

TURN_SECONDS = 1.0  # for which a model that is asked for again and again stays, though others wait for its place
IDLE_SECONDS = 0.05  # without a request, after which a model may be taken out before its turn is over
RETRY_SECONDS = 1.0  # after a model could not be loaded
AGAIN_SECONDS = 0.02  # between two looks for a place, while some model waits for one

Load = Callable[[ModelEntry], ServedModel]


class Standing(Enum):
    """Why a model is in memory: it is served; texts of it go on though others take its place; it was replaced."""

    SERVED = 1
    LEAVING = 2
    REPLACED = 3


@dataclass(frozen=True)
class Room:
    """How much may be in memory. models: None for any number; bytes: None for any."""

    models: int | None = None
    bytes: int | None = None

    @property
    def bounded(self) -> bool:
        """Whether models are loaded only when they are asked for."""
        return self.models is not None or self.bytes is not None


@dataclass(slots=True)
class _Held:
    """A model that something refers to."""

    bytes: int
    standing: Standing


class Residents:
    """The models in memory and those on their way there; for the event loop's thread.

    load: reads a model, in one of `threads`. unload: called with a model that is served no more, though texts of it may
    go on; it counts until the last of them has ended and nothing refers to it.

    A model is taken out when it has no texts and was not asked for a moment ago; one that is busy all the time gives
    way after its turn of a second. Those that wait for a place get one in the order in which they were asked for. So
    two crowds on two models make them change places once a second, and not with every request.
    """

    def __init__(self, room: Room, load: Load, unload: Callable[[ServedModel], None], threads: Executor) -> None:
        self.room = room
        self._load, self._unload, self._threads = load, unload, threads
        self._waiting: dict[ModelEntry, None] = {}
        self._loading: dict[ModelEntry, int] = {}
        self._since: dict[ModelEntry, float] = {}  # those that are served from memory, and when they were loaded
        self._held: dict[int, _Held] = {}
        self._numbers: weakref.WeakKeyDictionary[EngineModel, int] = weakref.WeakKeyDictionary()
        self._next = 0
        self._again: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where all this happens, once there is one."""

    @property
    def bytes(self) -> int:
        """Memory of all models that are referred to and of those that are being loaded."""
        return sum(one.bytes for one in self._held.values()) + sum(self._loading.values())

    def want(self, entry: ModelEntry) -> "asyncio.Future[ServedModel]":
        """A model that is not in memory, as soon as there is a place for it; the future may raise ModelUnavailable."""
        if entry.waiting is not None:
            return entry.waiting
        future = entry.waiting = asyncio.get_running_loop().create_future()
        future.add_done_callback(_look_at)
        if time.monotonic() - entry.failed < RETRY_SECONDS:
            self._settle(entry, unavailable(entry))
        elif self.room.bytes is not None and entry.facts.loading_bytes > self.room.bytes:
            self._settle(entry, ModelUnavailable(f"The model {entry.name!r} is larger than this server may load."))
        else:
            self._waiting[entry] = None
            self._pump()
        return future

    def put(self, entry: ModelEntry, model: ServedModel) -> None:
        """Serve an entry with a model that is in memory."""
        entry.served = model
        entry.loads += 1
        self._since[entry] = time.monotonic()
        self._next += 1
        self._held[self._next] = _Held(model.nbytes, Standing.SERVED)
        self._numbers[model.engine_model] = self._next
        weakref.finalize(model.engine_model, _freed, weakref.ref(self), self._next).atexit = False
        self._waiting.pop(entry, None)
        self._settle(entry)

    def take_out(self, entry: ModelEntry, standing: Standing) -> None:
        """Serve an entry from memory no more; its texts go on. standing: why."""
        model, entry.served = entry.served, None
        self._since.pop(entry, None)
        if model is not None:
            self._held[self._numbers[model.engine_model]].standing = standing
            self._unload(model)

    def forget(self, entry: ModelEntry, error: Exception) -> None:
        """An entry is gone: those that wait for it get the error."""
        self.take_out(entry, Standing.REPLACED)
        self._waiting.pop(entry, None)
        self._settle(entry, error)

    def freed(self, number: int) -> None:
        """Nothing refers to a model any more."""
        del self._held[number]
        self._pump()

    def _pump(self) -> None:
        """Load what waits, as far as there is a place; otherwise make one."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for entry in list(self._waiting):
            if not self.fits(entry):
                self._make_room(entry)
                if not self.fits(entry):
                    self._again = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._pump)
                    return
            del self._waiting[entry]
            self._loading[entry] = entry.facts.loading_bytes
            loading = asyncio.get_running_loop().run_in_executor(self._threads, self._load, entry)
            loading.add_done_callback(partial(self._loaded, entry, entry.swaps))

    def fits(self, entry: ModelEntry, soon: bool = False) -> bool:
        """Whether there is a place. soon: count what is leaving as gone."""
        gone = [one.bytes for one in self._held.values() if soon and one.standing is Standing.LEAVING]
        counted = sum(one.standing is not Standing.REPLACED for one in self._held.values()) - len(gone)
        if self.room.models is not None and counted + len(self._loading) + 1 > self.room.models:
            return False
        return self.room.bytes is None or self.bytes - sum(gone) + entry.facts.loading_bytes <= self.room.bytes

    def _make_room(self, entry: ModelEntry) -> None:
        """Take out what may give way, as far as it has to."""
        now = time.monotonic()
        while not self.fits(entry, soon=True):
            free = [one for one in self._since if not one.pinned and self._may_go(one, now)]
            if not free:
                return
            self.take_out(min(free, key=lambda one: one.used), Standing.LEAVING)

    def _may_go(self, entry: ModelEntry, now: float) -> bool:
        assert entry.served is not None
        idle = not entry.served.engine_model.groups and now - entry.used >= IDLE_SECONDS
        return idle or now - self._since[entry] >= TURN_SECONDS

    def _loaded(self, entry: ModelEntry, swaps: int, future: "asyncio.Future[ServedModel]") -> None:
        """Serve what was read. swaps: how often the entry was replaced when the reading began."""
        del self._loading[entry]
        error = ModelUnavailable("The server is stopping.") if future.cancelled() else future.exception()
        if entry.swaps != swaps and entry.waiting is not None:  # the version before was read
            self._waiting[entry] = None
        elif error is not None:
            entry.failed = time.monotonic()
            known = isinstance(error, UnrollError | MemoryError)
            logger.error("The model %s cannot be loaded: %s", entry.name, error, exc_info=None if known else error)
            self._settle(entry, unavailable(entry))
        elif entry.waiting is not None:  # else it is gone, or was replaced meanwhile
            model = future.result()
            entry.facts, entry.used = model.facts, time.monotonic()
            self.put(entry, model)
        self._pump()

    def _settle(self, entry: ModelEntry, error: Exception | None = None) -> None:
        """Tell those that wait for a model what came of it: an error, or what is served now."""
        future, entry.waiting = entry.waiting, None
        if future is None or future.done():
            return
        if error is None and entry.served is not None:
            future.set_result(entry.served)
        else:
            future.set_exception(error or unavailable(entry))


def unavailable(entry: ModelEntry) -> ModelUnavailable:
    """A model cannot be loaded; why is for the log, as it may name files."""
    return ModelUnavailable(f"The model {entry.name!r} cannot be loaded now; the server's log says why.")


def _look_at(future: "asyncio.Future[ServedModel]") -> None:
    if not future.cancelled():
        future.exception()  # seen, even if everyone who asked has left


def _freed(residents: "weakref.ref[Residents]", number: int) -> None:
    """Count a model as gone; in any thread."""
    one = residents()
    if one is None or one.loop is None or one.loop.is_closed():
        return
    with suppress(RuntimeError):  # it has just been closed
        one.loop.call_soon_threadsafe(one.freed, number)
