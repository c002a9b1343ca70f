"""One model by its name: which version is served, whether it is in memory, and what was refused."""

import asyncio
import math
import time

from service.engine.counters import ModelCounts
from service.inference.served_model import ModelFacts, ServedModel
from service.models.folder_watch import Signature
from service.models.naming import Place


class ModelEntry:
    """A name under which a model is served.

    place: where its checkpoint is. pinned: whether it stays in memory.
    facts: of the version that is served. served: that version, while it is in memory. waiting: for it to be loaded.
    signature: of the files that `facts` were read from; None where nobody watches them.
    counts: of all versions. loads: how often it was loaded; swaps: how often it was replaced by another version.
    used: when it was asked for last, and failed: when it could not be loaded, by `time.monotonic`.
    """

    def __init__(self, place: Place, facts: ModelFacts, counts: ModelCounts) -> None:
        self.place = place
        self.facts = facts
        self.pinned = False
        self.served: ServedModel | None = None
        self.waiting: asyncio.Future[ServedModel] | None = None
        self.counts = counts
        self.loads = self.swaps = 0
        self.used, self.failed = time.monotonic(), -math.inf
        self.signature: Signature | None = None

    @property
    def name(self) -> str:
        """By which requests ask for it."""
        return self.place.name

    def is_version(self, digest: str | None) -> bool:
        """Whether a digest, or the beginning of one, is that of the version that is served; None is any."""
        return digest is None or self.facts.digest.startswith(digest)
