"""A regular pattern as a tree of sets of characters, sequences, alternatives and repetitions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of a set, a bit for each of an alphabet's."""

    mask: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """One pattern after the other; none is the empty text."""

    parts: tuple["Tree", ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some patterns."""

    parts: tuple["Tree", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A pattern `least` to `most` times; None is without end."""

    part: "Tree"
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Nested:
    """A character out of a set, and then the part of this number, which may stand inside itself."""

    mask: int
    part: int


Tree = Chars | Sequence | Choice | Repeat | Nested

EMPTY = Sequence()

DEEPEST_WORDS = 40  # words that each begin with the one before


class NotRegular(Exception):
    """A pattern has something that no tree says, or none of bearable size; it is followed step by step instead."""


@dataclass(slots=True)
class Alphabet:
    """Characters by their bit: the `known` first ones can be drawn, those after them a pattern has named besides."""

    characters: list[str]
    known: int = 0
    bits: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = len(self.characters)
        self.bits = {character: at for at, character in enumerate(self.characters)}

    def literal(self, character: str) -> Chars:
        """One character, known or not."""
        at = self.bits.get(character)
        if at is None:
            at = self.bits[character] = len(self.characters)
            self.characters.append(character)
        return Chars(1 << at)

    def text(self, text: str) -> Tree:
        """One text."""
        return Sequence(tuple(map(self.literal, text)))

    def where(self, wanted: Callable[[str], bool], example: str | None = None) -> Chars:
        """All known characters of some kind; where there is none, the unknown `example` of it."""
        mask = 0
        for at, character in enumerate(self.characters[: self.known]):
            if wanted(character):
                mask |= 1 << at
        return self.literal(example) if not mask and example is not None else Chars(mask)

    def texts(self, texts: Iterable[str]) -> Tree:
        """One of some texts, as the tree of their beginnings."""
        return self._texts(sorted(set(texts)), 0)

    def _texts(self, texts: list[str], at: int, depth: int = 0) -> Tree:
        if depth > DEEPEST_WORDS:
            raise NotRegular("its texts begin like each other too often")
        parts: list[Tree] = []
        start = 0
        while start < len(texts):
            if len(texts[start]) == at:
                parts.append(EMPTY)
                start += 1
                continue
            end = start
            while end < len(texts) and texts[end][at] == texts[start][at]:
                end += 1
            until = len(_common(texts[start], texts[end - 1], at)) + at
            inner = EMPTY if end - start == 1 else self._texts(texts[start:end], until, depth + 1)
            parts.append(Sequence((self.text(texts[start][at:until]), inner)))
            start = end
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))


def _common(first: str, last: str, at: int) -> str:
    """What the first and last of sorted texts have in common from a place on, and so all between them."""
    end = at
    while end < min(len(first), len(last)) and first[end] == last[end]:
        end += 1
    return first[at:end]
