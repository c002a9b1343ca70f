"""The memory of this process's control group (cgroup) on Linux, versions 1 and 2."""

from pathlib import Path

UNLIMITED = 1 << 60  # version 1 of control groups writes "no limit" as a number near 2^63


def _number(path: Path) -> int | None:
    """The number in a file of the kernel; None if there is none."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


class ControlGroup:
    """The memory of this process's control group and of those above it, in version 1 or 2.

    root: where control groups are mounted. membership: the text of /proc/self/cgroup.
    """

    def __init__(self, root: Path, membership: str) -> None:
        self._groups: list[tuple[Path, Path, Path, bytes]] = []
        for line in membership.splitlines():
            _, controllers, path = (*line.split(":", 2), "", "")[:3]
            if controllers == "":
                base, names = root, ("memory.max", "memory.current", b"inactive_file ")
            elif "memory" in controllers.split(","):
                base = root / "memory"
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", b"total_inactive_file ")
            else:
                continue
            limit, usage, inactive = names
            group = base / path.lstrip("/")
            # In a container the path may be the one outside of it, while the group itself is mounted at the root.
            for folder in (group, *group.parents):
                if base in (folder, *folder.parents):
                    self._groups.append((folder / limit, folder / usage, folder / "memory.stat", inactive))

    @property
    def limit(self) -> int | None:
        """The smallest limit in bytes; None without a limit."""
        limits = [size for one, *_ in self._groups if (size := _number(one)) is not None and size < UNLIMITED]
        return min(limits, default=None)

    @property
    def left(self) -> int | None:
        """Bytes until the nearest limit; droppable file caches count as free. None without a limit."""
        left = None
        for limit, usage, stat, inactive in self._groups:
            most, used = _number(limit), _number(usage)
            if most is None or used is None or most >= UNLIMITED:
                continue
            try:
                lines = stat.read_bytes().splitlines()
            except OSError:
                lines = []
            dropped = next((int(line[len(inactive) :]) for line in lines if line.startswith(inactive)), 0)
            left = min(most - used + dropped, left if left is not None else most)
        return left
