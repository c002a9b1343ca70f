"""Constraints in llguidance's words: grammars, matchers that follow a text, and its errors as sentences."""

import json
from functools import partial
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from model.constraints.constraint import Constraint, Limits
from model.constraints.grammar import lark_of, reason_of
from model.constraints.reasons import LEAVES_OUT, of_llguidance, of_pattern, patterns_of, plain_places
from model.constraints.vocabulary import Vocabulary
from model.patterns.schema_tree import ESCAPES
from model.sampling.transitions import NOWHERE, Transitions, Walk

COMPACT: Any = {
    "whitespace_flexible": False,
    "item_separator": ",",
    "key_separator": ":",
    "json_allowed_escapes": ESCAPES,
}

FOLLOWS = np.array([[NOWHERE, 0]], np.int32)  # from the only state to itself, after a column that is allowed
NEAR = np.zeros(1, np.int32)  # how far the end of such a text is, nobody knows: it is never in the way


def grammar_of(constraint: Constraint) -> str:
    """The grammar of a constraint, for `matcher`. Raises ParameterError where it is none."""
    match constraint.kind:
        case "regex":
            if reason := of_pattern(constraint.source):
                raise constraint.refused(f"is no regular expression {reason}")
            return LLMatcher.grammar_from_regex(constraint.source)
        case "choice":
            texts = [json.dumps(text, ensure_ascii=False) for text in constraint.texts()]
            return LLMatcher.grammar_from_lark("start: " + " | ".join(texts))
        case "json_schema" | "json_object":
            return schema_grammar({"type": "object"} if constraint.kind == "json_object" else constraint.value())
        case "grammar":
            return LLMatcher.grammar_from_lark(lark_of(constraint))
        case "allowed_ids" | "bad_words":
            raise ValueError(f"{constraint.kind} needs no grammar")


def schema_grammar(schema: Any) -> str:
    """The grammar of a JSON schema, compact; options of llguidance's own in it are not heard."""
    if isinstance(schema, dict):
        schema = {name: value for name, value in schema.items() if name != "x-guidance"}
    return LLMatcher.grammar_from_json_schema(json.dumps(schema, ensure_ascii=False), overrides=COMPACT)


def matcher(constraint: Constraint, grammar: str, guide: LLTokenizer, limits: Limits) -> LLMatcher:
    """A matcher over a vocabulary's characters, at the beginning of a text.

    Raises ParameterError where the grammar is refused, saying why and where.
    """
    bounds = LLParserLimits(
        initial_lexer_fuel=limits.fuel,
        step_lexer_fuel=limits.step_fuel,
        max_lexer_states=limits.lexer_states,
        verbose_errors=False,
    )
    made = LLMatcher(guide, grammar, log_level=0, limits=bounds)
    if made.is_error():
        reason = reason_of if constraint.kind == "grammar" else partial(of_llguidance, constraint.kind)
        raise constraint.refused(reason(constraint.source, plain_places(made.get_error())))
    return made


def check_patterns(constraint: Constraint, schema: Any) -> None:
    """Raise ParameterError where a string of a schema has a pattern that llguidance would not hold to.

    It lets what a set leaves out be written with a backslash (seen in version 1.9.1).
    """
    if any(map(LEAVES_OUT.search, patterns_of(schema))):
        remedy = "name the characters it takes, or leave out what keeps the schema from having a table"
        raise constraint.refused(f"has a pattern that leaves out quotation marks or backslashes; {remedy}")


def allowed(made: LLMatcher, known: int) -> int:
    """The characters that may follow, a bit for each."""
    return int.from_bytes(made.compute_bitmask(), "little") & known


class MatcherWalk(Walk):
    """Transitions of one state, the columns that may follow renewed after each; a draw must stop after every column."""

    stepwise = True

    def __init__(self, matcher: LLMatcher, vocabulary: Vocabulary, left: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        classes, complete = np.zeros(len(vocabulary.columns), np.int32), np.zeros(1, np.int32)
        super().__init__(Transitions(classes, FOLLOWS, NEAR, complete), left)

    def take(self, column: int) -> bool:
        """See `Walk.take`."""
        if self.transitions.classes[column]:
            self._matcher.consume_token(self._vocabulary.columns[column])
        return super().take(column)

    def fork(self) -> "MatcherWalk":
        """See `Walk.fork`."""
        return MatcherWalk(self._matcher.deep_copy(), self._vocabulary, self.left)

    def _look(self) -> None:
        """What may follow now. A text that cannot go on with this model's characters ends as one that was cut."""
        mask = allowed(self._matcher, self._vocabulary.known)
        self.transitions.classes[:] = _columns(mask, self._vocabulary)
        self.transitions.complete[0] = self._matcher.is_accepting()
        if not mask:
            self.ended = "stop" if self.free else "length"
        elif self.left <= 0:
            self.ended = "length"


def _columns(mask: int, vocabulary: Vocabulary) -> NDArray[np.int32]:
    """1 for each column whose character is in a mask, 0 for the others (S,)."""
    count = len(vocabulary.characters)
    raw = np.frombuffer(mask.to_bytes(count // 8 + 1, "little"), np.uint8)
    bits = np.zeros(count + 1, np.int32)  # one more, which columns without a character read
    bits[:count] = np.unpackbits(raw, bitorder="little")[:count]
    return bits[vocabulary.column_bits]
