"""What the chart's tests share: free ports, a folder of models, and a certificate."""

import random
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from model.checkpoint import named_checkpoint

OF_NO_CLIENT = (20_000, 32_000)  # below the ports that connections of this machine take for themselves


def taken(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def ports() -> list[str]:
    """Helm's words that give the pod two ports that nobody uses."""
    words: list[str] = []
    free = [port for port in random.sample(range(*OF_NO_CLIENT), 20) if not taken(port)]
    for name, port in zip(("port", "managementPort"), free, strict=False):
        words += ["--set", f"{name}={port}"]
    return words


@pytest.fixture
def models(tmp_path: Path, checkpoint_folder: Path) -> Path:
    """A folder of two models: `first`, which is small, and `second`, which takes seconds for a long text."""
    for name, folder in (("first", checkpoint_folder), ("second", named_checkpoint(None))):
        shutil.copytree(folder, tmp_path / "models" / name)
    return tmp_path / "models"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict[str, str]]:
    """Makes the texts of a Secret of the type kubernetes.io/tls."""

    def make() -> dict[str, str]:
        folder = tmp_path_factory.mktemp("certificate")
        files = [f"-keyout={folder / 'tls.key'}", f"-out={folder / 'tls.crt'}"]
        words = [word for one in files for word in one.split("=")]
        subject = ["-subj", "/CN=unroll.example", "-days", "2", "-nodes"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, *words], check=True, capture_output=True
        )
        return {path.name: path.read_text("ascii") for path in folder.iterdir()}

    return make
