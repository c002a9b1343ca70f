"""One model by its name: which version is served, whether it is in memory, and what was refused."""

import asyncio
import time

from service.engine.counters import ModelCounts
from service.inference.served_model import ModelFacts, ServedModel
from service.models.naming import Place


class ModelEntry:
    """A name under which a model is served.

    place: where its checkpoint is. pinned: whether it stays in memory.
    facts: of the version that is served. served: that version, while it is in memory. waiting: for it to be loaded.
    counts: of all versions. loads: how often it was loaded, swaps: replaced by another version, refused: how often a
    replacement could not be served. used: when it was asked for last, by `time.monotonic`.
    """

    def __init__(self, place: Place, facts: ModelFacts, counts: ModelCounts) -> None:
        self.place = place
        self.facts = facts
        self.pinned = False
        self.served: ServedModel | None = None
        self.waiting: asyncio.Future[ServedModel] | None = None
        self.counts = counts
        self.loads = self.swaps = self.refused = 0
        self.used = time.monotonic()

    @property
    def name(self) -> str:
        """By which requests ask for it."""
        return self.place.name

    def is_version(self, digest: str | None) -> bool:
        """Whether a digest, or the beginning of one, is that of the version that is served; None is any."""
        return digest is None or self.facts.digest.startswith(digest)
