"""A regular expression as a tree, as far as it has a plain one; parsed by Python's own parser."""

import re
from importlib import import_module
from typing import Any

from model.patterns.pattern_tree import EMPTY, Alphabet, Chars, Choice, NotRegular, Repeat, Sequence, Tree

_parser: Any = import_module("re._parser")

DEEPEST_GROUPS = 32  # brackets within brackets of a pattern
QUOTED = re.compile(r'\\.|"(?:\\.|[^"\\])*"', re.DOTALL)
SET_ALGEBRA = re.compile(r"\[\[|--|&&|~~")  # what the two dialects of sets read in two ways
_KINDS = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}
_EXAMPLES = {"DIGIT": "0", "SPACE": " ", "WORD": "a"}


def regex_tree(pattern: str, alphabet: Alphabet, ascii_only: bool = False) -> Tree:
    r"""The tree of a pattern that a whole text must match.

    ascii_only: \d and \w are those of ASCII, as in JSON schemas. Raises NotRegular where the pattern has no such tree,
    or where Rust's dialect, in which llguidance reads it, may mean something else.
    """
    if SET_ALGEBRA.search(pattern):
        raise NotRegular("its sets are written with operators")
    if depth(pattern) > DEEPEST_GROUPS:
        raise NotRegular("it nests too deep")
    try:
        parsed = _parser.parse(pattern, re.ASCII if ascii_only else 0)
    except (re.error, OverflowError, Warning) as error:
        raise NotRegular(str(error)) from None
    if parsed.state.flags & ~(re.ASCII | re.UNICODE):
        raise NotRegular("it has flags")
    items = [(str(operation), argument) for operation, argument in parsed]
    if items[:1] == [("AT", _parser.AT_BEGINNING)]:
        items = items[1:]
    if items[-1:] == [("AT", _parser.AT_END)]:
        items = items[:-1]
    return TreeBuilder(alphabet, ascii_only).sequence(items)


class TreeBuilder:
    """Turns what the parser says into a tree."""

    def __init__(self, alphabet: Alphabet, ascii_only: bool) -> None:
        self._alphabet = alphabet
        self._flags = re.ASCII if ascii_only else 0

    def sequence(self, items: Any) -> Tree:
        """Some parts one after the other."""
        parts = tuple(self._one(str(operation), argument) for operation, argument in items)
        return parts[0] if len(parts) == 1 else Sequence(parts)

    def _one(self, operation: str, argument: Any) -> Tree:
        match operation:
            case "LITERAL":
                return self._alphabet.literal(chr(argument))
            case "NOT_LITERAL":
                return self._alphabet.where(lambda character: ord(character) != argument)
            case "ANY":
                return self._alphabet.where(lambda character: character != "\n")
            case "IN":
                return self._set(argument)
            case "BRANCH":
                return Choice(tuple(self.sequence(part) for part in argument[1]))
            case "SUBPATTERN":
                _, added, removed, inner = argument
                if added or removed:
                    raise NotRegular("it has flags")
                return self.sequence(inner)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, inner = argument
                part = self.sequence(inner)
                return EMPTY if part == EMPTY else Repeat(part, least, None if most is _parser.MAXREPEAT else most)
        raise NotRegular(f"it has {operation.lower()}")

    def _set(self, items: list[tuple[Any, Any]]) -> Chars:
        negated = str(items[0][0]) == "NEGATE"
        members = items[1:] if negated else items
        tests = [self._member(str(operation), argument) for operation, argument in members]
        mask = 0
        for chars in tests:
            mask |= chars.mask
        known = (1 << self._alphabet.known) - 1
        return Chars(known & ~mask) if negated else Chars(mask)

    def _member(self, operation: str, argument: Any) -> Chars:
        match operation:
            case "LITERAL":
                return self._alphabet.literal(chr(argument))
            case "RANGE":
                low, high = argument
                return self._alphabet.where(lambda character: low <= ord(character) <= high, chr(low))
            case "CATEGORY":
                _, _, name = str(argument).partition("_")
                negated, kind = name.startswith("NOT_"), name.removeprefix("NOT_")
                test = re.compile(_KINDS[kind], self._flags)
                wanted = self._alphabet.where(
                    lambda character: (test.match(character) is None) is negated, None if negated else _EXAMPLES[kind]
                )
                return wanted
        raise NotRegular(f"a set has {operation.lower()}")


def depth(pattern: str) -> int:
    """How many round brackets are open at once at most; one in a set counts as well, one in quotes does not."""
    now = deepest = 0
    for character in QUOTED.sub("", pattern):
        now += (character == "(") - (character == ")")
        deepest = max(deepest, now)
    return deepest
