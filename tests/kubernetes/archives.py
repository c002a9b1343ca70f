"""Archives of models on a web server of this machine."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def archive(folder: Path, files: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """A server of an archive of files: the archive's address and SHA-256."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    (folder / "models.tar.gz").write_bytes(made.getvalue())
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield (
            f"http://127.0.0.1:{server.server_address[1]}/models.tar.gz",
            hashlib.sha256(made.getvalue()).hexdigest(),
        )
        server.shutdown()
