"""What the clients' tests share: a real server of the bundled model, and plain requests to compare with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.service.serving import serving_process

MODEL = "shakespeare"


@dataclass(frozen=True)
class Served:
    """A server of the bundled model in a process of its own."""

    url: str
    http: httpx.Client

    def post(self, path: str, **fields: Any) -> Any:
        """The JSON of an answer that has to be good."""
        response = self.http.post(path, json=fields)
        assert response.status_code == 200, response.text
        return response.json()

    def write(self, prompt: str, **fields: Any) -> str:
        """The first text of a completion."""
        text: str = self.post("/v1/completions", prompt=prompt, **fields)["choices"][0]["text"]
        return text


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """The server that all clients talk to."""
    with (
        serving_process("--port", "0", "--name", MODEL, "--log-level", "error") as (_, url),
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        yield Served(url, http)
