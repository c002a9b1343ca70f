"""How many cores this process may use: those of its affinity mask, and no more than its control groups pay for."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")  # where control groups are mounted
MEMBERSHIP = Path("/proc/self/cgroup")


def available_cores(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> int:
    """The cores for threads that compute all the time, at least 1.

    A quota of 1.5 cores (`docker run --cpus 1.5`) counts as 2: one thread could not use it up.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(groups, membership)]
    return max(1, min([cores, *quotas]))


def _quotas(groups: Path, membership: Path) -> Iterator[float]:
    """The cores that each control group of this process may use, and those above it; versions 1 and 2."""
    for line in (_text(membership) or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = groups / "cpu" if controllers else groups
        group = base / path.lstrip("/")
        # Inside a container the path may be the one outside, and the group itself is mounted at the root.
        for folder in (group, *group.parents):
            if base not in (folder, *folder.parents):
                break
            said = [_text(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
            words = [one or "" for one in said] if controllers else (_text(folder / "cpu.max") or "").split()
            if len(words) == 2 and all(word.strip().isdecimal() for word in words):  # none is "max", or -1
                quota, period = map(int, words)
                if quota and period:
                    yield quota / period


def _text(path: Path) -> str | None:
    try:
        return path.read_text("ascii")
    except (OSError, ValueError):
        return None
