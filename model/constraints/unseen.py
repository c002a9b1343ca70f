"""Characters that a pattern without a table needs and a model has not seen, found by trying beginnings of texts."""

import re
import unicodedata
from bisect import bisect
from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Any

from llguidance import LLMatcher

from model.constraints.constraint import Constraint, Limits
from model.constraints.guidance import allowed, matcher
from model.constraints.vocabulary import Vocabulary, guide_of
from model.patterns.positions import bits

PROBES = 100  # beginnings that are tried before a pattern of seen characters is believed to have a whole text
MORE_PROBES = 1_000  # the same of one that names characters the model has not seen
WALKS, STEPS = 12, 250  # texts that are tried besides, and how long they may become
ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|x\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
SYNTAX = set('{}[]",:\\/+-.0123456789abefnlrstuE \n\r\t')
"""What JSON is written with, and what the common tokens of Lark grammars tell apart."""

SAID = ("title", "description", "$comment", "default", "examples", "$id", "$schema")
"""What a schema says to people; no text has to have it."""


def lacking(
    constraint: Constraint, grammar: str, schema: Any, followed: LLMatcher, vocabulary: Vocabulary, limits: Limits
) -> str | None:
    """What a pattern needs that cannot be drawn: some characters, or none known where no text matches; None if a text
    that matches was found, or may still be.

    Raises ParameterError where llguidance gives a beginning up as too much work.
    """
    named = set("".join(_texts(schema))) if schema is not None else _named(constraint.source)
    new = sorted(named - set(vocabulary.characters))[:MORE_PROBES]
    if not new:
        return None if _has_text(constraint, followed, vocabulary) else ""
    search = _Search(constraint, grammar, vocabulary, named, new, limits)
    found = search.fewest()
    if found is None and search.walk(vocabulary.known) is None:
        found = search.walk(search.every)
    return "" if found is None and search.exhausted else found or None


def _named(source: str) -> set[str]:
    """The characters that a grammar or regular expression is written with, those behind escapes as well."""
    numbers = (int(next(filter(None, found.groups())), 16) for found in ESCAPE.finditer(source))
    return set(source) | {chr(number) for number in numbers if number < 0x110000 and not 0xD800 <= number < 0xE000}


def _texts(schema: Any) -> Iterator[str]:
    """The texts of a schema that a value may have to have."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield "".join(_named(one))
        elif isinstance(one, dict):
            yield from one
            waiting += [value for name, value in one.items() if name not in SAID]
        elif isinstance(one, list):
            waiting += one


def _has_text(constraint: Constraint, followed: LLMatcher, vocabulary: Vocabulary) -> bool:
    """Whether a whole text is found among the first beginnings tried, or not all beginnings have been tried."""
    waiting = deque([followed.deep_copy()])
    for _ in range(PROBES):
        if not waiting:
            return False
        one = waiting.popleft()
        if one.is_accepting():
            return True
        for character in bits(_following(constraint, one, vocabulary.known)):
            after = one.deep_copy()
            after.consume_token(character)
            waiting.append(after)
            if len(waiting) > PROBES:
                return True
    return True


def _following(constraint: Constraint, one: LLMatcher, known: int) -> int:
    following = allowed(one, known)
    if one.is_error():
        if re.search("NoExtension|ff_tokens", one.get_error()):  # nothing can follow, or tens of thousands must
            reason = "a part of it never ends, or only after very many characters; give that another way"
            raise constraint.refused(f"is matched by no text: {reason}")
        raise constraint.refused("takes more work than this program does for one; write a smaller one")
    return following


class _Search:
    """Tries texts of a model's characters and of others that a pattern names.

    Characters that the pattern cannot tell apart by what it names are tried as one: those of one category between two
    that it names.
    """

    def __init__(
        self,
        constraint: Constraint,
        grammar: str,
        vocabulary: Vocabulary,
        named: set[str],
        new: list[str],
        limits: Limits,
    ) -> None:
        self._constraint = constraint
        self._characters = [*vocabulary.characters, *new]
        self._known = len(vocabulary.characters)
        self._start = matcher(constraint, grammar, guide_of(self._characters), limits)
        named = named | SYNTAX | {one for character in named for one in character.swapcase()}
        order = sorted(named)
        kinds: dict[Any, int] = {}
        for at, character in enumerate(self._characters):
            alike = (bisect(order, character), unicodedata.category(character))
            kinds.setdefault(character if character in named else alike, at)
        self.every = sum(1 << at for at in kinds.values())
        self.exhausted = False

    def fewest(self) -> str | None:
        """The new characters of a text with as few as there can be, "" being none; None where that is not found."""
        tries = count()
        heap: list[tuple[int, int, int, int, LLMatcher]] = [(0, 0, next(tries), 0, self._start.deep_copy())]
        for _ in range(MORE_PROBES):
            if not heap:
                self.exhausted = True
                return None
            _, length, _, lacking, one = heappop(heap)
            if one.is_accepting():
                return self._text(lacking)
            for character in bits(_following(self._constraint, one, self.every)):
                after = one.deep_copy()
                after.consume_token(character)
                more = lacking | (1 << character if character >= self._known else 0)
                heappush(heap, (more.bit_count(), length + 1, next(tries), more, after))
            if len(heap) > 4 * MORE_PROBES:
                return None
        return None

    def walk(self, known: int) -> str | None:
        """The new characters of a whole text of some characters, as few as in any that are found by taking the least
        used ones; None where none is found."""
        uses, best = [0] * len(self._characters), None
        for _ in range(WALKS):
            one, lacking = self._start.deep_copy(), 0
            for _ in range(STEPS):
                if one.is_accepting():
                    text = self._text(lacking)
                    best = text if best is None or len(text) < len(best) else best
                    break
                following = _following(self._constraint, one, self.every & known)
                if not following:
                    break
                character = min(bits(following), key=uses.__getitem__)
                uses[character] += 1
                lacking |= 1 << character if character >= self._known else 0
                one.consume_token(character)
        return best

    def _text(self, lacking: int) -> str:
        return "".join(sorted(self._characters[at] for at in bits(lacking)))
