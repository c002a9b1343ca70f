"""Opens the page in the browser of the person who starts the server."""

import logging
import threading
import webbrowser

logger = logging.getLogger(__name__)


def open_page(url: str) -> None:
    """Open the address, in a thread of its own: some browsers return only when they are closed."""
    if not url.startswith(("http://", "https://")):
        logger.warning("A Unix socket has no page to open; serve on a port for that.")
        return
    threading.Thread(target=_open, args=(url,), name="browser", daemon=True).start()


def _open(url: str) -> None:
    if not webbrowser.open(url):
        logger.warning("No browser was found; open %s yourself.", url)
