"""Notices which checkpoints of a folder appear, change and go, by their names and times, several times a second."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from model.checkpoint import CONFIG, TOKENIZER, WEIGHTS
from service.models.naming import Place, shown

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.2  # between two looks; with very many models more, so that looking takes a twentieth of the time
LONGEST_LOOK = 0.5
QUIET_SECONDS = 1.0  # without a change, until a folder that is written in place counts as whole
GONE_SECONDS = 0.4  # without a checkpoint, until one counts as gone: a replacement leaves its name for a moment
MOST_MODELS = 1000

Stat = tuple[int, int, int, int, int]


class Signature(NamedTuple):
    """What a checkpoint looks like from outside: another one, or another content, has another signature.

    folder: device and inode. files: device, inode, size and times of each file that counts.
    """

    folder: tuple[int, int]
    files: tuple[Stat | None, ...]


class Change(NamedTuple):
    """A checkpoint that is to be read.

    place: its name, and the folder of the checkpoint or its run. signature: None where it is gone.
    final: whether it has been quiet for long enough, so that a fault of it is one and not a copy under way.
    """

    place: Place
    signature: Signature | None
    final: bool


@dataclass(slots=True)
class _Seen:
    """A checkpoint as it was seen last. since: when it came to look so; missing: since when it is gone, 0 if it is not.
    told: whether its final change was told."""

    signature: Signature
    since: float
    missing: float = 0.0
    told: bool = False


def signature_of(place: Place) -> Signature | None:
    """The signature of a checkpoint; None where there is none."""
    try:
        folder = place.checkpoint
        of_folder = os.stat(folder)
        files = tuple(_stat(folder / name) for name in (CONFIG, WEIGHTS, TOKENIZER))
    except (OSError, ValueError):
        return None
    return Signature((of_folder.st_dev, of_folder.st_ino), files) if files[0] is not None else None


def _stat(path: Path) -> Stat | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class FolderWatch:
    """Looks at a folder of checkpoints and of runs, and says what has changed since the look before; for one thread.

    A folder with another inode came by a rename, so its checkpoint is told at once; what changes in place is told once
    it has been quiet. What is told at once is told again when it has been quiet, for a copy into a new folder.
    clock: seconds that never go back.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._unreadable = self._too_many = False
        self.took = 0.0
        """Seconds that the last look took."""

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return min(max(LOOK_SECONDS, 20 * self.took), LONGEST_LOOK)

    def look(self, hurry: bool = False) -> list[Change]:
        """What has changed. hurry: also tell what has not been quiet for long enough."""
        began = self._clock()
        places = self._places()
        if places is None:
            return []  # a disk that cannot be read now is no reason to serve nothing
        found = {place.name: (place, signature_of(place)) for place in places}
        changes = [change for place, now in found.values() if now for change in self._of(place, now, began, hurry)]
        for name in [name for name in self._seen if found.get(name, (None, None))[1] is None]:
            seen = self._seen[name]
            seen.missing = seen.missing or began
            if began - seen.missing >= GONE_SECONDS:
                del self._seen[name]
                changes.append(Change(Place(name, self._folder / name), None, True))
        self.took = self._clock() - began
        return changes

    def _of(self, place: Place, now: Signature, at: float, hurry: bool) -> list[Change]:
        seen = self._seen.get(place.name)
        if seen is None or seen.missing or seen.signature != now:
            renamed = seen is None or seen.signature.folder != now.folder
            self._seen[place.name] = _Seen(now, at)
            return [Change(place, now, False)] if renamed or hurry else []
        if seen.told:
            return []
        if at - seen.since >= QUIET_SECONDS:
            seen.told = True
            return [Change(place, now, True)]
        return [Change(place, now, False)] if hurry else []

    def _places(self) -> list[Place] | None:
        try:
            names = sorted(name for name in os.listdir(self._folder) if not name.startswith("."))
        except OSError as error:
            if not self._unreadable:
                logger.error("The folder of models %s cannot be read (%s); what is served stays.", self._folder, error)
            self._unreadable = True
            return None
        self._unreadable = False
        if len(names) > MOST_MODELS and not self._too_many:
            logger.warning("%s has %d folders; the first %d by name are served.", self._folder, len(names), MOST_MODELS)
        self._too_many = len(names) > MOST_MODELS
        return [Place(shown(name), self._folder / name) for name in names[:MOST_MODELS]]
