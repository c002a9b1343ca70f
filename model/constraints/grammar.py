"""Grammars in Lark's notation and in llama.cpp's GBNF: which of them one is written in, and what is wrong with it."""

import re

from llguidance.gbnf_to_lark import GbnfToLarkError, GrammarParser, SequenceNode, gbnf_to_lark

from model.constraints.constraint import Constraint
from model.errors import ParameterError

LARK_HEAD = re.compile(r"^[ \t]*(?:[?!]?start[ \t]*:(?!:=)|%llguidance\b)", re.M)
LARK_RULE = re.compile(r"^[ \t]*[?!]?\w+[ \t]*:(?!:?=)", re.M)
LARK_EMPTY = re.compile(r"^[ \t]*[?!]?(\w+)[ \t]*:[ \t]*(?://[^\n]*)?$(?!\s*\|)", re.M)
GBNF_HEAD = re.compile(r"^[ \t]*([\w-]+)[ \t]*::=", re.M)
LONG_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
BRACKET_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\([\[\]])")
EMPTY_TEXT = 'write "" where the empty text is meant'

GBNF_PART = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|\{[^}]*\}|\s+|.', re.DOTALL)
REPEATED = re.compile(r"\s*[*+?{]")
GBNF_REASONS: tuple[tuple[str, str], ...] = (
    (r"Expected ::=", "::= is missing behind the name of a rule"),
    (r"Expected name", "the name of a rule is missing"),
    (r"Expected integer", "a number is missing"),
    (r"Expected (.*)", r"\1 is missing"),
    (r"Unexpected end of input", "a quotation mark or bracket before has no end"),
    (r"(?:Incomplete|Invalid) .*escape sequence.*", "this is written behind no backslash"),
    (r"Rule '(.*)' not found", r"the rule \1 is used, and not there; write it"),
)
LARK_REASONS: tuple[tuple[str, str], ...] = (
    (
        r"lexer error",
        "this is no part of a grammar; a quotation mark or slash may have no end, or a character no meaning here",
    ),
    (r"unknown name: \"(.*)\"", r"the rule \1 is used, and not there; write it"),
    (r"duplicate rule: \"(.*)\"", r"there is a rule \1 before; leave one of them out"),
    (r"Expected token '?(.+?)'?, found", r"\1 is missing"),
    (r"expecting rule, token or statement", "a rule is to begin here, with its name and a colon"),
    (r"circular reference in token \"(.*)\"", r"the token \1 stands inside itself; write it in small letters"),
    (r"(?s)invalid regex .*error: ([^\n]+)", r"no regular expression: \1"),
    (r"Unknown common regex: ([^;]*)", r"there is no \1 to import"),
)


def lark_of(constraint: Constraint) -> str:
    """A grammar in Lark's notation. Raises ParameterError where it is none, saying where and what to change."""
    source = constraint.source
    if is_lark(source):
        if (empty := LARK_EMPTY.search(source)) is not None:
            raise _refused(constraint, empty.start(1), f"the rule {empty[1]} says nothing; {EMPTY_TEXT}")
        return source
    heads = GBNF_HEAD.findall(source)
    if not heads and (rule := LARK_RULE.search(source)) is not None:
        raise _refused(constraint, rule.start(), "no rule is named start; name so the one that the whole text matches")
    twice = next((name for name in heads if heads.count(name) > 1), None)
    if twice is not None:
        last = [found.start(1) for found in GBNF_HEAD.finditer(source) if found[1] == twice][1]
        raise _refused(constraint, last, f"there is a rule {twice} before; leave one of them out")
    try:
        _check(constraint)
        return gbnf_to_lark(short_escapes(kept_groups(source)))
    except GbnfToLarkError as error:
        reason = str(error).removesuffix(f" at {error.pos}")
        raise _refused(constraint, error.pos.pos, _plain(reason, GBNF_REASONS)) from None
    except (RecursionError, ValueError) as error:
        raise constraint.refused(f"is no grammar ({type(error).__name__}); write a flatter one") from None
    except ParameterError:
        raise
    except Exception as error:  # whatever else its parser raises, which has no type of its own
        name = re.search(r"'(.*)'", str(error))
        at = -1 if name is None else _used(source, name[1])
        raise _refused(constraint, at, _plain(str(error), GBNF_REASONS)) from None


def reason_of(source: str, error: str) -> str:
    """What llguidance says of a grammar in Lark's notation, to stand behind the name of a field.

    Of one in GBNF the place is not told: it is that in the Lark grammar that was made of it.
    """
    place = re.match(r"(?:at )?(\d+)\((\d+)\): (.*)", error, re.DOTALL)
    if place is None:
        return f"cannot be followed ({_plain(error, LARK_REASONS)}); see docs/constraints.md for what it may have"
    reason = _plain(place[3], LARK_REASONS)
    where = "" if not is_lark(source) else _place(source, int(place[1]), int(place[2]))
    return f"is no grammar{where}: {reason}; see docs/constraints.md for the notation"


def is_lark(source: str) -> bool:
    """Whether a grammar is in Lark's notation, and not in GBNF."""
    return LARK_HEAD.search(source) is not None


def kept_groups(source: str) -> str:
    """A grammar in GBNF whose groups the converter (llguidance 1.9.1) keeps where one repeats what repeats.

    It drops the brackets of a group of one part, and `("a"{2}){3}` becomes `"a"{2}{3}`, which is none.
    """
    made: list[str] = []
    before = ""  # the last part that is no white space
    for part in GBNF_PART.finditer(source):
        repeats = part[0] == ")" and REPEATED.match(source, part.end()) is not None
        made.append(' "")' if repeats and (before == ")" or REPEATED.match(before)) else part[0])
        before = part[0].strip() or before
    return "".join(made)


def short_escapes(source: str) -> str:
    """A grammar in GBNF whose escapes llguidance (1.9.1) reads right.

    Of a character's number it drops leading zeros, unless it has two digits, and brackets in a text it takes only so.
    """
    source = LONG_ESCAPE.sub(_short_escape, source)
    return BRACKET_ESCAPE.sub(lambda found: f"{found[1]}\\x{ord(found[2]):02x}", source)


def _short_escape(found: re.Match[str]) -> str:
    number = int(found[2] or found[3], 16)
    if 0xD800 <= number < 0xE000 or number > 0x10FFFF:
        return found[0]
    return found[1] + (chr(number) if number >= 0x80 else f"\\x{number:02x}")


def _check(constraint: Constraint) -> None:
    """Raise ParameterError where a grammar in GBNF has no root, or a rule of it says nothing."""
    rules = GrammarParser().parse(constraint.source)
    for rule in rules.values():
        whole = getattr(rule.alternatives, "alternatives", [])
        if len(whole) == 1 and isinstance(whole[0], SequenceNode) and not whole[0].nodes:
            raise _refused(
                constraint, _used(constraint.source, rule.name), f"the rule {rule.name} says nothing; {EMPTY_TEXT}"
            )
    if "root" not in rules:
        raise _refused(constraint, 0, "no rule is named root, as GBNF has it, or start, as Lark has it; name one so")


def _used(source: str, name: str) -> int:
    """Where a name stands first; -1 where that is not seen."""
    found = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", source)
    return -1 if found is None else found.start()


def _refused(constraint: Constraint, at: int, reason: str) -> ParameterError:
    line = constraint.source.count("\n", 0, max(0, at)) + 1
    column = at - constraint.source.rfind("\n", 0, max(0, at))
    where = "" if at < 0 else _place(constraint.source, line, column)
    return constraint.refused(f"is no grammar{where}: {reason}; see docs/constraints.md for the notation")


def _place(source: str, line: int, column: int) -> str:
    lines = source.rstrip().split("\n")
    if line > len(lines) or (line == len(lines) and column > len(lines[-1])):
        return " at its end"
    return f" at line {line}, column {column}"


def _plain(reason: str, known: tuple[tuple[str, str], ...]) -> str:
    """A parser's words as a plain sentence, or their first line."""
    for pattern, plain in known:
        if (found := re.search(pattern, reason)) is not None:
            return found.expand(plain)
    line = reason.strip().partition("\n")[0].rstrip(".")
    return line[:200] + ("…" if line[200:] else "")
