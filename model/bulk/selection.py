"""Which drawn items a list keeps: those it has not yet, and those that do not stand in a corpus."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from model.bulk.formats import as_line
from model.command_line.terminal import percent
from model.errors import ParameterError

IN_VAIN = 10_000  # draws in a row of which none is kept: then there is hardly an item left to find
READ = 1 << 20  # characters of a corpus read at a time
BLOCK = 1 << 16  # items of a corpus that are held as text


def fingerprint(text: str) -> int:
    """64 bits of a text's digest: of ten million texts, two share one with a chance of 3 in a million."""
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8).digest())


class CorpusItems:
    """The items of a corpus in UTF-8, held in eight bytes each, as a list has them: on a line.

    separator: what ends each; label: what stands before those that are looked for, which is left out of them.
    Raises ParameterError where it cannot be read.
    """

    def __init__(self, path: Path, separator: str = "\n", label: str = "") -> None:
        self.name = path.name
        blocks = []
        items = (as_line(item.removeprefix(label)) for item in self._items(path, separator))
        while block := [fingerprint(item) for item in islice(items, BLOCK)]:
            blocks.append(np.unique(np.array(block, np.uint64)))
        self._known = np.unique(np.concatenate([np.zeros(0, np.uint64), *blocks]))

    def __contains__(self, key: int) -> bool:
        at = int(np.searchsorted(self._known, np.uint64(key)))
        return at < len(self._known) and int(self._known[at]) == key

    def _items(self, path: Path, separator: str) -> Iterator[str]:
        try:
            with path.open(encoding="utf-8") as file:
                begun = ""
                while text := file.read(READ):
                    *items, begun = (begun + text).split(separator)
                    yield from items
                if begun:
                    yield begun
        except OSError as error:
            raise ParameterError("novel_to", f"The corpus {path} cannot be read ({error.strerror}).") from error
        except UnicodeDecodeError as error:
            message = f"The corpus {path} is not UTF-8; convert it, for instance with iconv."
            raise ParameterError("novel_to", message) from error


@dataclass
class Counts:
    """What has become of the draws: how many there were, those kept, those there before, those in the corpus, and
    those that `max_tokens` cut."""

    draws: int = 0
    kept: int = 0
    repeated: int = 0
    copied: int = 0
    cut: int = 0

    def to_json(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


class Selection:
    """Decides on one draw after the other, in order, so that the list does not depend on how they were drawn.

    unique: keep an item once. corpus: keep no item of it.
    """

    def __init__(self, unique: bool = False, corpus: CorpusItems | None = None) -> None:
        self.unique, self.corpus = unique, corpus
        self.counts = Counts()
        self._seen: set[int] = set()
        self._in_vain = 0

    def resume(self, counts: dict[str, Any], kept: Iterable[str]) -> None:
        """Go on after the draws that were counted, of which these items were kept."""
        self.counts = Counts(**counts)
        self._seen.update(map(fingerprint, kept))

    @property
    def given_up(self) -> bool:
        """Whether so many draws in a row were in vain that more are no use."""
        return self._in_vain >= IN_VAIN

    def keep(self, text: str, cut: bool) -> bool:
        """Whether the next draw is kept. cut: it has no end, since it reached the most it may have."""
        key, counts = fingerprint(text), self.counts
        counts.draws += 1
        self._in_vain += 1
        if self.corpus is not None and key in self.corpus:
            counts.copied += 1
            return False
        if key in self._seen:
            counts.repeated += 1
            if self.unique:
                return False
        self._seen.add(key)
        self._in_vain = 0
        counts.kept += 1
        counts.cut += cut
        return True

    def report(self) -> list[str]:
        """What there is to say of the draws."""
        counts = self.counts
        others = counts.draws - counts.copied
        different = others - counts.repeated
        if self.unique:
            novel = "novel " * (self.corpus is not None)
            said = [f"each once: {_share(different, others)} of {others:,} {novel}draws were new to the list"]
        else:
            said = [f"{different:,} different, {_share(different, others)}"]
        if self.corpus is not None:
            said.append(f"{_share(others, counts.draws)} of {counts.draws:,} draws not in {self.corpus.name}")
        if counts.cut:
            said.append(f"{counts.cut:,} without an end (--max-tokens)")
        return said


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "none"
