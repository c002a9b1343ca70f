"""The models of a server by name: found for each request, in the version that is served, while others are replaced."""

import time
from collections.abc import Iterator

from model.decoding.decoder import Decoder
from model.text.utf8_ids import BYTES
from service.engine.counters import ModelCounts
from service.engine.engine import Engine
from service.errors import ModelUnavailable, SettingsError, UnknownModel, VersionGone
from service.inference.constraints import ConstraintCache
from service.inference.served_model import ServedModel
from service.models.model_entry import ModelEntry
from service.models.naming import Place, aliases_of, named_places, without_digest
from service.settings import Settings, flag_of

Allowed = frozenset[str] | None
"""Names of the models that a key may use; None for all."""

LONGEST = 100  # characters of a name that an error repeats
MOST_NAMED = 8  # models that an error names


class ModelRegistry:
    """Names of models, and the version that each stands for; for the event loop's thread.

    settings: which models, and how they are loaded. engine: generates their texts.
    Raises CheckpointError and SettingsError where a model that the settings name cannot be served.
    """

    def __init__(self, settings: Settings, engine: Engine, decoder: type[Decoder] = Decoder) -> None:
        self._settings, self._engine, self._decoder = settings, engine, decoder
        self.constraints = ConstraintCache(settings.constraint_cache_bytes)
        """What was compiled of the constraints of all models."""
        self._entries: dict[str, ModelEntry] = {}
        self._aliases = aliases_of(settings)
        for place in named_places(settings):
            self._add(place)
        self._default = settings.default_model or next(iter(self._entries), None)
        self._check()

    def _add(self, place: Place) -> None:
        counts = ModelCounts()
        model = ServedModel.load(
            *(self._settings, self._decoder),
            name=place.name,
            folder=place.checkpoint,
            counts=counts,
            constraints=self.constraints,
        )
        entry = self._entries[place.name] = ModelEntry(place, model.facts, counts)
        entry.served = model

    def _check(self) -> None:
        """Check what the settings say of names."""
        for name in (self._settings.default_model, *self._aliases.values()):
            if name is not None and name not in self._entries and name not in self._aliases:
                raise SettingsError(f"There is no model {name!r} to stand for; {self._named(None)}.")
        for other in self._aliases:
            if other in self._entries:
                raise SettingsError(f"{flag_of('alias')} gives the name {other!r}, which a model has already.")

    def __iter__(self) -> Iterator[ModelEntry]:
        return iter(self._entries.values())

    def seen_by(self, allowed: Allowed) -> list[ModelEntry]:
        """The models that a key may use, in the order in which they were found."""
        return [entry for entry in self if self._may_use(entry, allowed)]

    def aliases(self, entry: ModelEntry) -> list[str]:
        """Other names of a model."""
        return [other for other, name in self._aliases.items() if self._aliases.get(name, name) == entry.name]

    def default(self, allowed: Allowed = None) -> ModelEntry | None:
        """The model of requests that name none; of a key that may not use it, the first one that it may use."""
        entry = self._entries.get(self._aliases.get(self._default or "", self._default or ""))
        if entry is not None and self._may_use(entry, allowed):
            return entry
        return next(iter(self.seen_by(allowed)), None)

    def default_name(self) -> str | None:
        """The name of the model of requests that name none; None where there is no model."""
        entry = self.default()
        return None if entry is None else entry.name

    @property
    def largest_vocabulary(self) -> int:
        """Ids of the model that has the most."""
        return max((entry.facts.vocabulary for entry in self), default=BYTES)

    def find(self, asked: str | None, allowed: Allowed = None) -> tuple[ModelEntry, str | None]:
        """The model that a request names, and the digest that pins its version, which is that of the version served.

        Raises UnknownModel where there is none, and VersionGone where that version is served no more.
        """
        if not asked:
            entry, digest = self.default(allowed), None
        else:
            entry, digest = self._named_entry(asked), None
            if entry is None:
                name, digest = without_digest(asked)
                entry = self._named_entry(name) if digest is not None else None
        if entry is None or not self._may_use(entry, allowed):
            subject = f"There is no model {asked[:LONGEST]!r}" if asked else "There is no model yet"
            raise UnknownModel(f"{subject}; {self._named(allowed)}.")
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
        model = self.loaded(asked, allowed)
        if model is None:
            raise ModelUnavailable(f"The model cannot be loaded since {arrived}.")
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

    async def close(self) -> None:
        """End what belongs to the models."""
        for entry in self:
            if entry.served is not None:
                await entry.served.constraints.close()

    def _named_entry(self, name: str) -> ModelEntry | None:
        return self._entries.get(self._aliases.get(name, name))

    def _may_use(self, entry: ModelEntry, allowed: Allowed) -> bool:
        return allowed is None or entry.name in allowed or any(other in allowed for other in self.aliases(entry))

    def _named(self, allowed: Allowed) -> str:
        """Which models there are, in words."""
        names = [entry.name[:LONGEST] for entry in self.seen_by(allowed)]
        if not names:
            return "this server has none" if allowed is None else "your key may use none of those that are served"
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        return f"this server has {', '.join(map(repr, names[:MOST_NAMED]))}{more}"
