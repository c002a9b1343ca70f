"""What the tests of several models share: two small checkpoints and what each writes alone."""

from pathlib import Path

import pytest

from model.checkpoint import save
from tests.model.small import small_checkpoint
from tests.service.serving import Reference


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of other weights and another vocabulary, by name."""
    root = tmp_path_factory.mktemp("several")
    for name, seed, characters in (("one", 1, "\n abcdefgh."), ("two", 2, "\n abcdefghijklmnop.é"), ("run", 3, "\nab")):
        save(small_checkpoint(seed=seed, characters=characters), root / name)
    save(small_checkpoint(seed=4), root / "training" / "best")
    return {name: root / name for name in ("one", "two", "run", "training")}


@pytest.fixture(scope="session")
def written(folders: dict[str, Path]) -> dict[str, Reference]:
    """What each writes when nothing else is served."""
    return {name: Reference(folders[name]) for name in ("one", "two")}
