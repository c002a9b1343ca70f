"""Constraints compiled for one model's characters: into a table of states where there is one, else for llguidance."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from llguidance import LLMatcher

from model.constraints import words
from model.constraints.constraint import Constraint, Limits
from model.constraints.grammar import is_lark
from model.constraints.grammar_tree import grammar_tree
from model.constraints.guidance import MatcherWalk, allowed, check_patterns, grammar_of, matcher, schema_grammar
from model.constraints.loosening import UNCOUNTED, loosened, uncounted
from model.constraints.reasons import of_pattern, patterns_of
from model.constraints.schemas import closed, without_notes
from model.constraints.unseen import lacking
from model.constraints.vocabulary import Vocabulary
from model.errors import ParameterError
from model.patterns.pattern_tree import Alphabet, NotRegular, Tree
from model.patterns.positions import Positions, bits
from model.patterns.regex_tree import regex_tree
from model.patterns.schema_tree import schema_tree
from model.patterns.table import MOST_LENGTH, Table, explore
from model.sampling.transitions import BEGINNING, NEVER, Transitions, Walk

MATCHER_BYTES = 256 * 1024  # what a matcher is taken to hold
NAMED = 20  # characters that a refusal lists


@dataclass(frozen=True, slots=True)
class Compiled:
    """A constraint ready to be followed by any number of rows at once.

    transitions: its table; None where it has none. Then llguidance's `matcher` over a `vocabulary` is followed, copied
    for each row.
    """

    transitions: Transitions | None
    vocabulary: Vocabulary | None = None
    matcher: LLMatcher | None = None

    @property
    def nbytes(self) -> int:
        """About what it takes in memory."""
        return MATCHER_BYTES if self.transitions is None else self.transitions.nbytes

    @property
    def row_bytes(self) -> int:
        """About what each row takes: a copy of the matcher, and the columns that may follow."""
        return 0 if self.vocabulary is None else MATCHER_BYTES + 4 * len(self.vocabulary.columns)

    @property
    def exact(self) -> bool:
        """Whether no text is ever cut in the middle."""
        return self.transitions is not None

    @property
    def ends(self) -> bool:
        """Whether there are places where a text is complete; allowed ids and bad words have none."""
        return self.transitions is None or bool(self.transitions.complete.any())

    def check(self, max_tokens: int, place: Sequence[int] = BEGINNING) -> None:
        """Raise ParameterError where not even the shortest text that matches fits, from a place of the table on."""
        least = 0 if self.transitions is None else self.transitions.least(place)
        if max_tokens < least:
            message = (
                f"max_tokens is {max_tokens:,}; the shortest text that matches has {least:,}: choose at least that"
            )
            raise ParameterError("max_tokens", f"{message}.")

    def walk(self, left: int, place: Sequence[int] = BEGINNING, written: Sequence[int] = ()) -> Walk:
        """The way of a row that may draw `left` ids: from a place of the table on, or where there is none after the
        columns that are written."""
        if self.transitions is not None:
            return Walk(self.transitions, left, place)
        assert self.matcher is not None
        assert self.vocabulary is not None
        matcher = self.matcher.deep_copy()
        matcher.consume_tokens([self.vocabulary.columns[column] for column in written])
        return MatcherWalk(matcher, self.vocabulary, left)

    def to_bytes(self) -> bytes:
        """Its table; nothing where there is none."""
        return b"" if self.transitions is None else self.transitions.to_bytes()


def compiled(constraint: Constraint, vocabulary: Vocabulary, limits: Limits | None = None) -> Compiled:
    """Make a constraint ready. All it may take is counted, none of it timed: it is the same on every machine.

    Raises ParameterError where it is too large, cannot be read, or cannot be written with the model's characters.
    """
    limits = limits or Limits()
    constraint.check(limits)
    match constraint.kind:
        case "allowed_ids":
            return Compiled(words.only(constraint, vocabulary))
        case "bad_words":
            return Compiled(words.without(constraint, vocabulary, limits))
    alphabet = Alphabet(list(vocabulary.characters))
    table = followed = schema = misread = None
    grammar = ""
    if constraint.kind == "choice":
        table = _table(constraint, None, alphabet, limits)
    if table is None:
        schema = _schema(constraint)
        looser, misread = loosened(schema)
        grammar = grammar_of(constraint) if schema is None else schema_grammar(looser)
        followed = matcher(constraint, grammar, vocabulary.guide, limits)
        table = _table(constraint, schema, alphabet, limits)
        if table is not None and not agrees(table, followed.deep_copy(), vocabulary):
            table = None
    if table is not None:
        try:
            transitions = table.transitions(vocabulary.columns, vocabulary.known)
        except NotRegular:
            transitions = None
        if transitions is not None:
            if transitions.shortest[0] == NEVER:
                missing = bits(table.missing(vocabulary.known))
                raise _unseen(constraint, "".join(sorted(alphabet.characters[at] for at in missing)))
            return Compiled(transitions)
    if misread is not None:
        raise constraint.refused(misread)
    assert followed is not None
    check_patterns(constraint, schema)
    needed = lacking(constraint, grammar, schema, followed, vocabulary, limits)
    if needed is not None:
        raise _unseen(constraint, needed)
    return Compiled(None, vocabulary, followed)


def stepwise(constraint: Constraint, vocabulary: Vocabulary, limits: Limits | None = None) -> Compiled:
    """A constraint of which it is known that `compiled` makes no table of it. Raises ParameterError as that does."""
    schema = _schema(constraint)
    grammar = grammar_of(constraint) if schema is None else schema_grammar(loosened(schema)[0])
    return Compiled(None, vocabulary, matcher(constraint, grammar, vocabulary.guide, limits or Limits()))


def _schema(constraint: Constraint) -> object:
    """The schema to be followed; None where there is none."""
    if constraint.kind == "json_object":
        return {"type": "object"}
    if constraint.kind != "json_schema":
        return None
    schema = constraint.value()
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        what = "is the schema that no value is valid by" if schema is False else "is no JSON schema"
        raise constraint.refused(f"{what}; send a JSON object")
    for pattern in patterns_of(schema):
        if reason := of_pattern(pattern):
            raise constraint.refused(f"has a pattern that is no regular expression {reason}")
    if uncounted(schema):
        raise constraint.refused(UNCOUNTED)
    schema = without_notes(schema)
    return closed(schema) if constraint.closed else schema


def _table(constraint: Constraint, schema: object, alphabet: Alphabet, limits: Limits) -> Table | None:
    """The table of a constraint, if it has one that is not too large."""
    try:
        tree, parts = _tree(constraint, schema, alphabet)
        return explore(Positions.of(tree, limits.positions, parts), limits.states, limits.cells)
    except NotRegular:
        return None


def _tree(constraint: Constraint, schema: object, alphabet: Alphabet) -> tuple[Tree, list[Tree]]:
    match constraint.kind:
        case "choice":
            return alphabet.texts(constraint.texts()), []
        case "regex":
            return regex_tree(constraint.source, alphabet), []
        case "grammar":
            if is_lark(constraint.source):
                raise NotRegular("it is written in Lark")
            return grammar_tree(constraint.source, alphabet)
    return schema_tree(schema, alphabet)


def agrees(table: Table, followed: LLMatcher, vocabulary: Vocabulary) -> bool:
    """Whether llguidance allows all that a table does, in every state, on the first way that leads there.

    A table is a second reading of a pattern; it is used only where what it writes is right by both. llguidance may
    allow more: it lets a string whose pattern leaves out the quotation mark have one that is escaped.
    """
    steps = table.steps(vocabulary.known)
    edges = _first_ways(table, steps, vocabulary.known)
    entered: list[tuple[list[int], int]] = [([], 0)]  # (characters, state) to be entered; state -1 goes as many back
    while entered:
        characters, state = entered.pop()
        if state < 0:
            followed.rollback(len(characters))
            continue
        if characters and not followed.consume_tokens(characters):
            return False
        mask = 0
        for some in steps[state].values():
            mask |= some
        if mask & ~allowed(followed, vocabulary.known):
            return False
        if table.complete[state] and not followed.is_accepting():
            return False
        if characters:
            entered.append((characters, -1))
        entered += edges[state]
    return True


def _first_ways(table: Table, steps: list[dict[int, int]], known: int) -> list[list[tuple[list[int], int]]]:
    """For each state, the known (characters, state) on the first ways to others; a call is gone into, and over."""
    edges: list[list[tuple[list[int], int]]] = [[] for _ in steps]
    ways = table.ways(known) if table.calls else None
    reached = {0}
    order = deque([0])
    while order:
        state = order.popleft()
        for following, mask in steps[state].items():
            entered: int | None = None
            for after in table.after(following):
                if after not in reached:
                    characters = [next(bits(mask))]
                    if entered is not None:
                        way = None if ways is None else ways.best.get(entered)
                        if ways is None or way is None or way.length > MOST_LENGTH:
                            break
                        characters += [bit.bit_length() - 1 for bit in ways.text(entered)]
                    reached.add(after)
                    edges[state].append((characters, after))
                    order.append(after)
                entered = after
    return edges


def _unseen(constraint: Constraint, characters: str) -> ParameterError:
    """The refusal of a pattern that no text of the model's characters matches. characters: that it needs, if known."""
    if not characters:
        return constraint.refused("cannot be matched by any text of the characters this model has seen")
    shown = ", ".join(map(repr, characters[:NAMED])) + (", …" if len(characters) > NAMED else "")
    return constraint.refused(
        f"cannot be matched by the characters this model has seen: a text that matches needs {shown}"
    )
