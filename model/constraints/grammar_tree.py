"""A grammar in GBNF as a tree, its rules written out; a rule inside itself is a part that a bracket enters."""

import re

from llguidance.gbnf_to_lark import (
    AlternativeNode,
    ASTNode,
    GrammarParser,
    LiteralNode,
    RegexNode,
    RepetitionNode,
    RuleRefNode,
    SequenceNode,
)

from model.constraints.grammar import short_escapes
from model.patterns.pattern_tree import EMPTY, Alphabet, Chars, Choice, Nested, NotRegular, Repeat, Sequence, Tree
from model.patterns.regex_tree import regex_tree

DEEPEST = 60  # nodes within nodes, all rules written out
MOST_PARTS = 20_000  # of a tree: rules that are used again and again multiply
WRITTEN = re.compile(r"\\x([0-9a-fA-F]{2})|\\(.)|(.)", re.S)
NAMED = {"n": "\n", "r": "\r", "t": "\t"}


def grammar_tree(source: str, alphabet: Alphabet) -> tuple[Tree, list[Tree]]:
    """The tree of a grammar's texts, and behind it what stands after the first character of each rule inside itself.

    source: a grammar in GBNF that has been read before. Raises NotRegular where it has no such tree, or a large one.
    """
    builder = _TreeBuilder(source, alphabet)
    return builder.rule("root", 0), builder.parts


class _TreeBuilder:
    """Turns rules into trees."""

    def __init__(self, source: str, alphabet: Alphabet) -> None:
        self._rules = GrammarParser().parse(short_escapes(source))
        self._alphabet = alphabet
        self._size = 0
        self._open: set[str] = set()  # rules that are being written out
        self._numbers: dict[str, int] = {}  # of those that stand inside themselves
        self.parts: list[Tree] = []

    def rule(self, name: str, depth: int) -> Tree:
        """A rule, written out; a part of its own where it stands inside itself."""
        if name in self._open:
            self._numbers.setdefault(name, len(self._numbers))
        body = self._rules[name].alternatives
        if name in self._numbers:
            return Nested(self._first(body), self._numbers[name])
        self._open.add(name)
        tree = self._tree(body, depth + 1)
        self._open.remove(name)
        if name not in self._numbers:
            return tree
        first = self._first(body)
        self.parts += [EMPTY] * (len(self._numbers) - len(self.parts))
        self.parts[self._numbers[name]] = _rest(tree)
        return Nested(first, self._numbers[name])

    def _first(self, body: ASTNode) -> int:
        """The characters that a rule inside itself begins with: one of a set, always."""
        while isinstance(body, AlternativeNode | SequenceNode):
            inner = body.alternatives if isinstance(body, AlternativeNode) else body.nodes
            if not inner or (isinstance(body, AlternativeNode) and len(inner) > 1):
                raise NotRegular("a rule inside itself begins in several ways")
            body = inner[0]
        tree = self._tree(body, 0) if isinstance(body, LiteralNode | RegexNode) else EMPTY
        first = tree.parts[0] if isinstance(tree, Sequence) and tree.parts else tree
        if not isinstance(first, Chars):
            raise NotRegular("a rule inside itself does not begin with a character")
        return first.mask

    def _tree(self, node: ASTNode, depth: int) -> Tree:
        self._size += 1
        if depth > DEEPEST or self._size > MOST_PARTS:
            raise NotRegular("its rules, written out, are large or deep")
        match node:
            case LiteralNode():
                return self._literal(node.value)
            case RegexNode():
                return regex_tree(node.rx, self._alphabet)
            case RuleRefNode():
                return self.rule(node.name, depth)
            case RepetitionNode():
                part = self._tree(node.node, depth + 1)
                return EMPTY if part == EMPTY else Repeat(part, node.min_times, node.max_times)
            case SequenceNode():
                return Sequence(tuple(self._tree(one, depth + 1) for one in node.nodes))
            case AlternativeNode():
                parts = tuple(self._tree(one, depth + 1) for one in node.alternatives)
                return parts[0] if len(parts) == 1 else Choice(parts)
        raise NotRegular("it has a part of an unknown kind")

    def _literal(self, written: str) -> Tree:
        found = WRITTEN.finditer(written)
        return self._alphabet.text(
            "".join(chr(int(one[1], 16)) if one[1] else one[3] or NAMED.get(one[2], one[2]) for one in found)
        )


def _rest(tree: Tree) -> Tree:
    """What stands behind the first character of a tree that begins with one."""
    if isinstance(tree, Chars):
        return EMPTY
    assert isinstance(tree, Sequence)
    first, *others = tree.parts
    return Sequence((_rest(first), *others))
