"""Endless streams of a running server, and whether it has come to rest."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.service.serving import ENDLESS, Running


@contextmanager
def endless(server: Running, **fields: Any) -> Iterator[Iterator[bytes]]:
    """A stream that is still being written; its client leaves at the end of the block."""
    body = {"prompt": "a", "max_tokens": ENDLESS, "stream": True, **fields}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=30) as response:
        assert response.status_code == 200
        yield response.iter_raw()


def is_idle(server: Running) -> bool:
    return server.engine.running == server.engine.waiting == 0
