"""The models of a server by name: found for each request, in the version that is served, while others are replaced."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from model.decoding.decoder import Decoder
from model.errors import CheckpointError, UnrollError
from model.text.utf8_ids import BYTES
from service.engine.counters import ModelCounts
from service.engine.engine import Engine
from service.errors import SettingsError, UnknownModel, VersionGone
from service.inference.constraints import ConstraintCache
from service.inference.served_model import ModelFacts, ServedModel
from service.models.collector import Collector
from service.models.folder_watch import Change, Signature, signature_of
from service.models.known_names import check_names, is_known
from service.models.model_entry import ModelEntry
from service.models.naming import NAME, UNNAMED, Place, aliases_of, named_places, without_digest
from service.models.reading_threads import ReadingThreads
from service.models.residents import Residents, Room, Standing
from service.models.watcher import Watcher
from service.settings import Settings, flag_of, listed

logger = logging.getLogger(__name__)

LOADERS = 4  # threads that read models
MOST_PROBLEMS = 256  # checkpoints that are refused and told of

Allowed = frozenset[str] | None
"""Names of the models that a key may use; None for all."""

LONGEST = 100  # characters of a name that an error repeats
MOST_NAMED = 8  # models that an error names
HOW_TO_PIN = "Behind the @ of a version stands its digest, or 8 or more of its first digits, in small letters."


class ModelRegistry:
    """Names of models, and the version that each stands for; for the event loop's thread.

    settings: which models, and how they are loaded. engine: generates their texts.
    Raises CheckpointError and SettingsError where a model that the settings name cannot be served.
    """

    def __init__(self, settings: Settings, engine: Engine, decoder: type[Decoder] = Decoder) -> None:
        self._settings, self._engine, self._decoder = settings, engine, decoder
        self.constraints = ConstraintCache(settings.constraint_cache_bytes)
        """What was compiled of the constraints of all models."""
        self.problems: dict[str, str] = {}
        """Why a checkpoint is not served, or not in its newest version, in a sentence by its name."""
        self.refusals: Counter[str] = Counter()
        """How often a checkpoint was refused, by its name."""
        self._entries: dict[str, ModelEntry] = {}
        self._aliases = aliases_of(settings)
        self._threads = ReadingThreads(LOADERS)
        room = Room(settings.max_loaded_models or None, settings.model_memory)
        self._residents = Residents(room, self._load, self._retire, self._threads)
        self._collector = Collector(self._threads)
        self._watcher = None if settings.models is None else Watcher(settings.models, self._changed)
        self._closing: set[asyncio.Task[None]] = set()
        self._newest: dict[str, Change] = {}  # changes that are not looked at yet
        self._working: dict[str, asyncio.Task[None]] = {}
        self._named_places = named_places(settings)
        self._default = self._aliases.get(settings.default_model or "", settings.default_model)
        self._pinned = frozenset(self._aliases.get(name, name) for name in listed(settings.pinned_models or ""))
        self._at_once = {self._default, *self._pinned}
        self._read_named()
        if self._watcher is not None:
            self._read_folder(self._watcher.look())
        check_names(settings, self._aliases, self._entries, self.offer)

    def _read_named(self) -> None:
        """Read the models that the settings name. Raises CheckpointError where one of them cannot be served."""
        first = {place.name for place in self._named_places[:1] if self._default is None}
        for place in self._named_places:
            self._begin_with(place, signature_of(place), self._at_once | first)

    def _read_folder(self, changes: list[Change]) -> None:
        """Read the models of the folder at the start; those that cannot be served are looked at again."""
        for change in changes:
            name = change.place.name
            if name not in self._entries and NAME.fullmatch(name):
                with suppress(CheckpointError):
                    self._begin_with(change.place, change.signature, self._at_once)

    def _begin_with(self, place: Place, signature: Signature | None, at_once: set[str | None]) -> None:
        """Read a model at the start: into memory without a limit, and within one where it is among those `at_once`.

        Raises CheckpointError, and SettingsError where a model that is pinned does not fit.
        """
        bounded = self._residents.room.bounded
        self._adopt(place, self._read(place, whole=not bounded), signature)
        if bounded and place.name in at_once:
            entry = self._entries[place.name]
            if self._residents.fits(entry):
                self._residents.put(entry, self._load(entry))
            elif entry.pinned:
                raise SettingsError(
                    f"There is no room for the model {place.name!r} that is to stay in memory; allow more with "
                    f"{flag_of('model_memory')} or {flag_of('max_loaded_models')}, or pin fewer."
                )

    def knows(self, name: str) -> bool:
        """Whether a model is served under a name, or the log tells why its checkpoint is not; in any thread."""
        return is_known(self._settings.models, self._aliases, self._entries, name)

    @property
    def offer(self) -> str:
        """Which models there are, and where others may come from, in words."""
        folder = self._settings.models
        more = "" if folder is None else f", and serves each checkpoint or run that comes into {folder}"
        return self._named(None) + more

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch the folder of models, and to load in `loop`."""
        self._residents.loop = loop
        if self._watcher is not None:
            self._watcher.start(loop)

    def look_now(self) -> None:
        """Look at all checkpoints at once, also those that the settings name; in any thread."""
        if self._watcher is not None:
            self._watcher.look_now()
        if (loop := self._residents.loop) is not None:
            changes = [Change(place, signature_of(place), True) for place in self._named_places]
            loop.call_soon_threadsafe(self._changed, [one for one in changes if one.signature is not None])

    def _read(self, place: Place, whole: bool) -> "ServedModel | ModelFacts":
        """Read and check a checkpoint, and make a model of it where it is wanted whole; in any thread."""
        if not whole:
            return ModelFacts.read(place.checkpoint, self._settings)[0]
        entry = self._entries.get(place.name)
        return ServedModel.load(
            *(self._settings, self._decoder),
            name=place.name,
            folder=place.checkpoint,
            counts=None if entry is None else entry.counts,
            constraints=self.constraints,
        )

    def _load(self, entry: ModelEntry) -> ServedModel:
        model = self._read(entry.place, whole=True)
        assert isinstance(model, ServedModel)
        self._collector.trim()
        return model

    def _changed(self, changes: list[Change]) -> None:
        """Take in what a watcher saw; of each name one change at a time is looked at, and then the newest."""
        for change in changes:
            name = change.place.name
            self._newest[name] = change
            if name not in self._working:
                task = self._working[name] = asyncio.get_running_loop().create_task(self._look_at(name))
                task.add_done_callback(partial(self._worked, name))

    def _worked(self, name: str, task: "asyncio.Task[None]") -> None:
        del self._working[name]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Taking in the model %s failed.", name, exc_info=error)
        if not task.cancelled() and (change := self._newest.pop(name, None)) is not None:  # seen as the task ended
            self._changed([change])

    async def _look_at(self, name: str) -> None:
        while (change := self._newest.pop(name, None)) is not None:
            entry = self._entries.get(name)
            if conflict := self._conflict(change.place):
                if change.signature is None:
                    self.problems.pop(name, None)
                else:
                    self._refuse(name, conflict, change.final)
            elif change.signature is None:
                self._remove(name)
            elif entry is None or entry.signature != change.signature:
                whole = not self._residents.room.bounded
                try:
                    found = await asyncio.get_running_loop().run_in_executor(
                        self._threads, self._read, change.place, whole
                    )
                except (UnrollError, MemoryError) as error:
                    self._refuse(name, str(error) or "there is no memory for it", change.final)
                except Exception as error:
                    logger.error("Reading the model %s failed.", name, exc_info=error)
                    self._refuse(name, "reading it failed, as the log says", change.final)
                else:
                    self._adopt(change.place, found, change.signature)
            else:  # the very folder that is served came back
                self.problems.pop(name, None)

    def _conflict(self, place: Place) -> str:
        """Who else has the name of a checkpoint, in words; nothing where nobody has."""
        if not NAME.fullmatch(place.name):
            return UNNAMED
        if place.name in self._aliases:
            return f"{flag_of('alias')} gives its name to another"
        named = any(one.name == place.name and one.folder != place.folder for one in self._named_places)
        return "a model that was named at the start has its name" if named else ""

    def _refuse(self, name: str, why: str, final: bool) -> None:
        """A checkpoint cannot be served; said once it is sure that no copy is under way."""
        if final:
            entry = self._entries.get(name)
            served = "" if entry is None or entry.served is None else " The version before is served on."
            problem = f"The checkpoint of {name!r} is refused: {why.rstrip('.')}.{served}"
            logger.error("%s", problem)
            self.refusals[name] += 1
            if len(self.problems) < MOST_PROBLEMS or name in self.problems:
                self.problems[name] = problem

    def _adopt(self, place: Place, found: "ServedModel | ModelFacts", signature: Signature | None) -> None:
        """Serve what was read under its name from now on."""
        model, facts = (found, found.facts) if isinstance(found, ServedModel) else (None, found)
        self.problems.pop(place.name, None)
        entry = self._entries.get(place.name)
        if entry is None:
            counts = ModelCounts() if model is None else model.engine_model.counts
            entry = self._entries[place.name] = ModelEntry(place, facts, counts)
            entry.pinned = place.name in self._pinned
            self._default = self._default or place.name
            if self._residents.loop is not None:
                logger.info("The model %s is served, version %s.", place.name, facts.digest)
        elif entry.facts.digest == facts.digest:
            entry.signature = signature
            return
        else:
            entry.swaps += 1
            logger.info("The model %s is served in another version, %s.", place.name, facts.digest)
        entry.facts, entry.signature, entry.failed = facts, signature, -math.inf
        was_loaded = entry.served is not None
        self._residents.take_out(entry, Standing.REPLACED)
        if model is not None:
            self._residents.put(entry, model)
        elif was_loaded or (entry.pinned and self._residents.loop is not None):
            self._residents.want(entry)

    def _remove(self, name: str) -> None:
        """Serve a model no more; its texts go on."""
        self.problems.pop(name, None)
        entry = self._entries.pop(name, None)
        if entry is not None:
            logger.info("The model %s is gone; its texts go on, and new requests for it are refused.", name)
            self._residents.forget(entry, UnknownModel(f"There is no model {name!r} any more; {self._named(None)}."))

    def _retire(self, model: ServedModel) -> None:
        """Let go of a model that is served no more, as soon as its texts have ended."""
        self._engine.retire(model.engine_model)
        self._collector.collect(model.engine_model)
        if (loop := self._residents.loop) is not None and not loop.is_closed():
            task = loop.create_task(model.constraints.retire())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def __iter__(self) -> Iterator[ModelEntry]:
        return iter([*self._entries.values()])  # a thread that reads keys may ask, too

    def seen_by(self, allowed: Allowed) -> list[ModelEntry]:
        """The models that a key may use, in the order in which they were found."""
        return [entry for entry in self if self._may_use(entry, allowed)]

    def aliases(self, entry: ModelEntry) -> list[str]:
        """Other names of a model."""
        return [other for other, name in self._aliases.items() if name == entry.name]

    def default(self, allowed: Allowed = None) -> ModelEntry | None:
        """The model of requests that name none; of a key that may not use it, the first one that it may use.

        It is the one of the settings, or else the first that was served, also while that one is gone.
        """
        entry = self._named_entry(self._default or "")
        if allowed is None or (entry is not None and self._may_use(entry, allowed)):
            return entry
        return next(iter(self.seen_by(allowed)), None)

    def default_name(self, allowed: Allowed = None) -> str | None:
        """The name of the model of requests that name none; None where there is no model, or none for this key."""
        entry = self.default(allowed)
        return None if entry is None else entry.name

    @property
    def largest_vocabulary(self) -> int:
        """Ids of the model that has the most."""
        return max((entry.facts.vocabulary for entry in self), default=BYTES)

    def find(self, asked: str | None, allowed: Allowed = None) -> tuple[ModelEntry, str | None]:
        """The model that a request names, and the digest that pins its version, which is that of the version served.

        Raises UnknownModel where there is none, and VersionGone where that version is not served, or no more: with its
        model gone, nothing tells the two apart.
        """
        if not asked:
            entry, digest = self.default(allowed), None
        else:
            entry, digest = self._named_entry(asked), None
            if entry is None:
                name, digest = without_digest(asked)
                entry = self._named_entry(name) if digest is not None else None
        if entry is None or not self._may_use(entry, allowed):
            named = self._named(allowed)
            if digest is not None:
                raise VersionGone(f"The version {(asked or '')[:LONGEST]!r} is not served; {named}.")
            subject = f"There is no model {asked[:LONGEST]!r}" if asked else "The default model is not there"
            pin = f" {HOW_TO_PIN}" if self._pins_loosely(asked, allowed) else ""
            raise UnknownModel(f"{subject}; {named}.{pin}")
        if not entry.is_version(digest):
            raise VersionGone(
                f"The version {(asked or '')[:LONGEST]!r} is not served any more; the model is now "
                f"{entry.name}@{entry.facts.digest}."
            )
        return entry, digest

    def loaded(self, asked: str | None, allowed: Allowed = None) -> ServedModel | None:
        """The model that a request names, if it is in memory; None and "" name the default, NAME@DIGEST a version.

        allowed: names of models that the request's key may use. Raises as `find` does.
        """
        entry, _ = self.find(asked, allowed)
        entry.used = time.monotonic()
        return entry.served

    async def load(self, asked: str | None, allowed: Allowed = None, arrived: float | None = None) -> ServedModel:
        """The same, loaded if it is not in memory.

        arrived: when the request came, by `time.monotonic`. Raises ModelUnavailable and DeadlineExceeded besides.
        """
        if (model := self.loaded(asked, allowed)) is not None:
            return model
        entry, digest = self.find(asked, allowed)
        deadline = self._engine.deadline(time.monotonic() if arrived is None else arrived)
        try:
            async with asyncio.timeout_at(None if deadline == math.inf else deadline):
                model = await asyncio.shield(self._residents.want(entry))
        except TimeoutError:
            raise self._engine.late() from None
        except UnknownModel:  # gone meanwhile, and a version that was pinned with it
            self.find(asked, allowed)
            raise
        if digest is not None and not model.facts.digest.startswith(digest):
            self.find(asked, allowed)
        return model

    def name_of_version(self, digest: str, allowed: Allowed = None) -> str:
        """What to ask for to have the model of that digest, whatever its name: NAME@DIGEST.

        Raises VersionGone where none that the key may use has it.
        """
        for entry in self.seen_by(allowed):
            if entry.facts.digest == digest:
                return f"{entry.name}@{digest}"
        gone = f"The model with the digest {digest[:LONGEST]} is not served any more"
        raise VersionGone(f"{gone}; {self._named(allowed)}.")

    @property
    def memory_bytes(self) -> int:
        """Memory of all models, also of those that are served no more and whose texts go on."""
        return self._residents.bytes

    async def close(self) -> None:
        """End what belongs to the models."""
        if self._watcher is not None:
            self._watcher.stop()
        for task in self._working.values():
            task.cancel()
        self._collector.stop()
        self._threads.shutdown()
        for entry in self:
            if entry.served is not None:
                await entry.served.constraints.close()
        for task in self._closing:
            task.cancel()
        await self.constraints.processes.close()

    def _named_entry(self, name: str) -> ModelEntry | None:
        return self._entries.get(self._aliases.get(name, name))

    def _pins_loosely(self, asked: str | None, allowed: Allowed) -> bool:
        """Whether a name that is none is that of a model and what does not pin a version of it."""
        entry = self._named_entry((asked or "").partition("@")[0])
        return "@" in (asked or "") and entry is not None and self._may_use(entry, allowed)

    def _may_use(self, entry: ModelEntry, allowed: Allowed) -> bool:
        return allowed is None or entry.name in allowed or any(other in allowed for other in self.aliases(entry))

    def _named(self, allowed: Allowed) -> str:
        """Which models there are, in words."""
        names = [entry.name[:LONGEST] for entry in self.seen_by(allowed)]
        if not names:
            return "this server has none" if allowed is None else "your key may use none of those that are served"
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        return f"this server has {', '.join(map(repr, names[:MOST_NAMED]))}{more}"
