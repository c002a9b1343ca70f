"""Shared memory of the processes of one machine, in which they add up their values."""

import mmap
import os
import sys

import torch
from torch import Tensor

from training.distributed.ranks import Ranks


class SharedRows:
    """A row of numbers for each process, visible to all.

    rows: fp32 (processes, n), zeros at first. Between machines, and if memory cannot be shared, sums go through
    sockets, which copies every number four times.
    """

    def __init__(self, ranks: Ranks, rows: Tensor) -> None:
        self._ranks, self._rows = ranks, rows
        borders = [number * rows.shape[1] // ranks.count for number in (ranks.number, ranks.number + 1)]
        self._part = rows[:, slice(*borders)]

    @property
    def own(self) -> Tensor:
        """The row of this process (n,)."""
        return self._rows[self._ranks.number]

    def sum(self) -> None:
        """Add up all rows, in the order of the processes, and write the sum into each; every process does a part."""
        self._ranks.wait()
        total, others = self._part[0], self._part[1:]
        for other in others:
            total += other
        others.copy_(total)
        self._ranks.wait()


def shared_rows(ranks: Ranks, size: int) -> SharedRows | None:
    """Rows of `size` numbers; None if the processes are on several machines, or cannot share memory."""
    if ranks.count == 1 or ranks.here != ranks.count or sys.platform != "linux":
        return None
    length = ranks.count * size * torch.float32.itemsize
    made = _made(length) if ranks.first else None
    path, identity = ranks.of_first(lambda: _name(made))
    mapped = _mapped(path, identity, length) if path else None
    whole = all(ranks.of_each(mapped is not None))  # the name is not needed any more
    if made is not None:
        os.close(made)
    if mapped is None or not whole:
        return None
    return SharedRows(ranks, torch.frombuffer(mapped, dtype=torch.float32).view(ranks.count, size))


def _made(length: int) -> int | None:
    """A file in memory with reserved bytes, which is removed once it is neither open nor mapped; None without
    room."""
    descriptor = None
    try:
        descriptor = os.memfd_create("unroll-gradients")
        os.posix_fallocate(descriptor, 0, length)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def _name(descriptor: int | None) -> tuple[str, list[int]]:
    """The path of a file for other processes, and its identity, so that they do not mistake another for it."""
    if descriptor is None:
        return "", []
    status = os.fstat(descriptor)
    return f"/proc/{os.getpid()}/fd/{descriptor}", [status.st_dev, status.st_ino, status.st_size]


def _mapped(path: str, identity: list[int], length: int) -> mmap.mmap | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if [status.st_dev, status.st_ino, status.st_size] != identity:
            return None
        return mmap.mmap(descriptor, length)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)
