"""Files of a corpus that were not read, counted by the reason, for the report."""

from collections.abc import Sequence
from typing import Literal

OnDecodeError = Literal["fail", "skip", "replace"]
"""What becomes of a file that is not text of the encoding: an error, nothing, or a text with U+FFFD in it."""

NAMED = 3  # names that are kept of each kind

PLURALS = {
    "archive": "archives",
    "broken link": "broken links",
    "cache": "caches",
    "checkpoint": "checkpoints",
    "git repository": "git repositories",
    "linked folder": "linked folders",
    "part of a run": "parts of runs",
    "unreadable folder": "unreadable folders",
    "virtual environment": "virtual environments",
}
"""Of the kinds that are nouns; `binary`, `hidden` and `unreadable` are the same for one and for many."""

SURPRISING = ("unreadable", "unreadable folder", "linked folder", "broken link", "in UTF-16", "archive", "encrypted")
"""Kinds that somebody may have wanted to be read: they are also told by name."""


class LeftOut:
    """Counts files and folders that were passed over, by kind."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.names: dict[str, list[str]] = {}
        """The first few of each kind."""

    def add(self, kind: str, name: str) -> None:
        """Count one more."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if len(names := self.names.setdefault(kind, [])) < NAMED:
            names.append(name)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def sentence(self, read: int) -> str:
        """As "6,176 files, 43 passed over: 40 binary, 3 unreadable"; read: how many were not."""
        files = f"{read:,} file{'' if read == 1 else 's'}"
        if not self.counts:
            return files
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        kinds = (f"{count:,} {kind if count == 1 else PLURALS.get(kind, kind)}" for kind, count in ordered)
        return f"{files}, {len(self):,} passed over: {', '.join(kinds)}"

    def surprises(self) -> Sequence[str]:
        """A line for each kind that may have been wanted, with the first few names, as "unreadable: a.txt, b.txt"."""
        lines = []
        for kind in SURPRISING:
            if kind in self.counts:
                count, names = self.counts[kind], ", ".join(self.names[kind])
                lines.append(f"{kind if count == 1 else PLURALS.get(kind, kind)}: {names}{', …' * (count > NAMED)}")
        return lines
