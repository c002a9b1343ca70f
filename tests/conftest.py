"""What every test shares: reproducible random examples, the corpora beside the repository, a small checkpoint."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from model.checkpoint import save
from tests.model.small import small_checkpoint

# A test run that a script starts in the background inherits an ignored SIGINT, and so would the programs that tests
# start and end with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# One thread of PyTorch's kernels a test process: with more they wait for each other in every operation, and for hours
# where another process takes a core. Tests of several threads ask for them by number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every run and every machine, however slow: a failure is a defect, never the weather.
settings.register_profile(
    "reproducible", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("reproducible")

CORPORA = Path(__file__).parents[2] / "shared" / "corpora"


@pytest.fixture(scope="session")
def corpus() -> Callable[[str], bytes]:
    """Reads a corpus by file name; a test that asks for one that is not there is skipped."""

    def read(name: str) -> bytes:
        path = CORPORA / name
        if not path.is_file():
            pytest.skip(f"needs the corpus {name} in {CORPORA}")
        return path.read_bytes()

    return read


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint on disk, of random weights; read only."""
    folder = tmp_path_factory.mktemp("checkpoints") / "small"
    save(small_checkpoint(), folder)
    return folder
