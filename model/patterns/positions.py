"""A tree's places, and which may follow which (Glushkov 1961): each place is one set of characters of the pattern."""

from collections.abc import Iterator
from collections.abc import Sequence as Row
from dataclasses import dataclass, field
from typing import NamedTuple

from model.patterns.pattern_tree import Chars, Choice, Nested, NotRegular, Repeat, Sequence, Tree

MOST_LINKS = 400_000  # pairs of places that follow each other, counted as they are entered; about 0.1 s

DEEPEST_TREE = 120


class Ends(NamedTuple):
    """How a part of a pattern begins and ends, a bit for each place: whether it may be empty, its first and last."""

    empty: bool
    first: int
    last: int


NOTHING = Ends(True, 0, 0)


@dataclass(slots=True)
class Positions:
    """The places of a pattern: what each takes, and which may follow it, a bit each. `ends`: of the whole pattern.

    parts: the ends of each part that may stand inside itself. enters: the part that a place is followed by.
    """

    takes: list[int] = field(default_factory=list)
    follow: list[int] = field(default_factory=list)
    ends: Ends = NOTHING
    parts: list[Ends] = field(default_factory=list)
    enters: dict[int, int] = field(default_factory=dict)
    links: int = 0

    @classmethod
    def of(cls, tree: Tree, most: int, parts: Row[Tree] = ()) -> "Positions":
        """Those of a tree. Raises NotRegular where there would be more than `most`, before any is made.

        parts: what stands behind the first character of each part that may stand inside itself.
        """
        if size(Sequence((tree, *parts)), most) > most:
            raise NotRegular(f"its repetitions, written out, take more than {most:,} places")
        positions = cls()
        positions.ends = positions._build(tree)
        positions.parts = [positions._build(part) for part in parts]
        return positions

    def after(self, places: int) -> int:
        """The places that may follow any of some."""
        following = 0
        for place in bits(places):
            following |= self.follow[place]
        return following

    def _build(self, tree: Tree) -> Ends:
        match tree:
            case Chars(mask):
                return self._place(mask)
            case Nested(mask, number):
                self.enters[len(self.takes)] = number
                return self._place(mask)
            case Sequence(parts):
                ends = NOTHING
                for part in parts:
                    ends = self._joined(ends, self._build(part))
                return ends
            case Choice(parts):
                every = [self._build(part) for part in parts]
                return Ends(any(one.empty for one in every), _union(every, 1), _union(every, 2))
            case Repeat():
                return self._repeated(tree)

    def _place(self, mask: int) -> Ends:
        place = len(self.takes)
        self.takes.append(mask)
        self.follow.append(0)
        return Ends(False, 1 << place, 1 << place)

    def _joined(self, before: Ends, after: Ends) -> Ends:
        """One after the other."""
        self._link(before.last, after.first)
        first = before.first | (after.first if before.empty else 0)
        return Ends(before.empty and after.empty, first, after.last | (before.last if after.empty else 0))

    def _repeated(self, tree: Repeat) -> Ends:
        """Copies in a row, of which those from the `least`-th on may be the last; without an end the last loops."""
        copies = max(1, tree.least) if tree.most is None else tree.most
        if not copies:
            return NOTHING
        least = tree.least
        first = last = before = 0
        for copy in range(copies):
            ends = self._build(tree.part)
            least = 0 if ends.empty else least
            first = first or ends.first
            self._link(before, ends.first)
            before = ends.last
            if copy + 1 >= least:
                last |= ends.last
        if tree.most is None:
            self._link(before, ends.first)
        return Ends(not least, first, last)

    def _link(self, before: int, after: int) -> None:
        self.links += before.bit_count()
        if self.links > MOST_LINKS:
            raise NotRegular("too many of its places follow each other")
        for place in bits(before):
            self.follow[place] |= after


def _union(every: list[Ends], at: int) -> int:
    union = 0
    for one in every:
        union |= one[at]
    return union


def bits(number: int) -> Iterator[int]:
    """The numbers of the bits that are set, lowest first."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def size(tree: Tree, most: int, depth: int = 0) -> int:
    """How many places a tree has, all repetitions written out; any number above `most` where there are more.

    Raises NotRegular on a tree so deep that Python's stack might not do for it.
    """
    if depth > DEEPEST_TREE:
        raise NotRegular("it nests too deep")
    match tree:
        case Chars() | Nested():
            return 1
        case Sequence(parts) | Choice(parts):
            total = 0
            for part in parts:
                total += size(part, most, depth + 1)
                if total > most:
                    break
            return total
        case Repeat(part, least, limit):
            return max(1, size(part, most, depth + 1)) * (max(1, least) if limit is None else limit)
