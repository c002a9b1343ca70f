"""One request for text that must match something, and the limits it is held to."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from model.constraints.reasons import of_json
from model.errors import ParameterError
from model.patterns.regex_tree import DEEPEST_GROUPS, depth
from model.strict_json import parse_json

SURROGATE = re.compile("[\ud800-\udfff]")

Kind = Literal["regex", "choice", "json_schema", "json_object", "grammar", "allowed_ids", "bad_words"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a constraint may cost, checked or counted while it is compiled; each limit is the same on every machine.

    pattern: characters of a regular expression. schema: characters of a JSON schema, a grammar or all choices.
    states, cells: of a table; a pattern that needs more has none and is followed step by step.
    positions: places of a pattern, all repetitions written out, before its table is thought of.
    fuel, step_fuel: what llguidance may spend on building a lexer, and on one step of it where there is no table: about
    2,000 and 14,000 a millisecond. lexer_states: what it may hold, at 1 to 2 kB each.
    """

    pattern: int = 8 * 1024
    schema: int = 64 * 1024
    states: int = 4 * 1024
    cells: int = 256 * 1024
    positions: int = 16 * 1024
    fuel: int = 100_000
    step_fuel: int = 50_000
    lexer_states: int = 50_000


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a text must match from its first character to its last.

    kind: which of them. source: a regular expression; a JSON list of texts; a JSON schema; nothing for any JSON
    object; a grammar in Lark's or in GBNF notation; a JSON list of ids, the only ones to be drawn; a JSON list of words
    that must not occur. name: what the caller knows it by, for errors. closed: an object of a schema that lists its
    properties has no others, unless the schema says so itself.
    """

    kind: Kind
    source: str
    name: str = "constraint"
    closed: bool = True

    @classmethod
    def of_value(cls, kind: Kind, value: Any, name: str) -> "Constraint":
        """A constraint whose source is a JSON value. Raises ParameterError where it cannot be written as JSON."""
        try:
            return cls(kind, json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False), name)
        except (ValueError, RecursionError) as error:
            raise ParameterError(name, f"{name} is no JSON ({error}); send plain JSON values.") from None

    def check(self, limits: Limits) -> None:
        """Raise ParameterError where the source is larger or deeper than is compiled."""
        if SURROGATE.search(self.source):
            raise self.refused("has half of a surrogate pair; send whole Unicode characters")
        if self.kind in ("regex", "grammar") and not self.source:
            raise self.refused("is empty; send a pattern, or leave it out for free text")
        most = limits.pattern if self.kind == "regex" else limits.schema
        if len(self.source) > most:
            raise self.refused(f"has {len(self.source):,} characters; send at most {most:,}")
        if self.kind in ("regex", "grammar") and depth(self.source) > DEEPEST_GROUPS:
            raise self.refused(f"nests more than {DEEPEST_GROUPS} groups deep; write a flatter pattern")

    def value(self) -> Any:
        """The JSON value of the source. Raises ParameterError where it is none, or nests deeper than 32."""
        try:
            return parse_json(self.source)
        except ValueError as error:
            raise self.refused(of_json(error, self.source)) from None

    def texts(self) -> list[str]:
        """The texts of a list of choices or of words. Raises ParameterError on anything but whole texts."""
        value = self.value()
        if not isinstance(value, list) or not value or not all(isinstance(text, str) and text for text in value):
            raise self.refused("is not a list of texts; send at least one, none of them empty")
        return value

    def refused(self, reason: str) -> ParameterError:
        """An error for the caller to raise: it is about the field, and its sentence names the part of it."""
        return ParameterError(self.name.partition(".")[0], f"{self.name} {reason}.")
