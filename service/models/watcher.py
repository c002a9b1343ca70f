"""The thread that looks at the folder of models, and tells the event loop what has changed."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service.models.folder_watch import Change, FolderWatch

logger = logging.getLogger(__name__)


class Watcher:
    """Looks at a folder in a thread of its own, as a disk may keep it waiting.

    changed: called in the event loop's thread with what was seen.
    """

    def __init__(self, folder: Path, changed: Callable[[list[Change]], None]) -> None:
        self._watch = FolderWatch(folder)
        self._changed = changed
        self._loop: asyncio.AbstractEventLoop
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="watch-models", daemon=True)

    def look(self) -> list[Change]:
        """What there is; before the thread is started."""
        return self._watch.look()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look; what has changed is told in `loop`."""
        self._loop = loop
        self._thread.start()

    def look_now(self) -> None:
        """Look at once, and tell also what has not been quiet for long enough; in any thread."""
        self._wake.set()

    def stop(self) -> None:
        """Look no more; does not wait."""
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            hurry = self._wake.wait(self._watch.pause)
            self._wake.clear()
            if self._stopped:
                return
            try:
                changes = self._watch.look(hurry)
            except (OSError, MemoryError) as error:
                logger.error("Looking at the folder of models failed (%s); it is tried again.", error)
                continue
            if changes:
                with suppress(RuntimeError):  # the event loop has just been closed
                    self._loop.call_soon_threadsafe(self._changed, changes)
