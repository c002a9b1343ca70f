"""What the service's tests share: a server that stays up, and the plain reference it has to equal."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests.service.serving import Reference, Running, SlowDecoder, serving


@pytest.fixture(scope="session")
def server(checkpoint_folder: Path) -> Iterator[Running]:
    """A server of the small checkpoint."""
    with serving(
        Settings(checkpoint=checkpoint_folder, max_body_bytes=100_000, max_prompt_characters=20_000)
    ) as running:
        yield running


@pytest.fixture(scope="session")
def reference(checkpoint_folder: Path) -> Reference:
    """The same checkpoint, one text at a time."""
    return Reference(checkpoint_folder)


@pytest.fixture
def slow_server(checkpoint_folder: Path) -> Iterator[Running]:
    """A server of its own for a test that needs texts to take long."""
    with serving(Settings(checkpoint=checkpoint_folder, max_rows=4, max_waiting=2), SlowDecoder) as running:
        yield running
