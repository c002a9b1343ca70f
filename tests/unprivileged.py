"""Runs a piece of a test as a user who may not do everything, also where the tests run as the superuser."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Be inside a folder, and no superuser. Paths must be relative to it: the folders above may be closed."""
    before = Path.cwd()
    os.chdir(folder)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        os.chdir(before)
