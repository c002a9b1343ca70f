"""Tables of patterns: the same language as Python's `re`, the fewest characters to an end, and bounded work."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.patterns.pattern_tree import Alphabet, NotRegular
from model.patterns.positions import Positions
from model.patterns.regex_tree import regex_tree
from model.patterns.table import Table, explore
from model.sampling.transitions import NEVER, NOWHERE, Transitions

LETTERS = "abc1 "
PLAIN = st.sampled_from(["a", "b", "1", " ", ".", "[ab]", "[^a]", r"\d", r"\w", r"[^\s1]", "x"])


def groups(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    counts = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "+?"])
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]}|)"),
        st.tuples(inner, counts).map(lambda two: f"({two[0]}){two[1]}"),
    )


REGEXES = st.recursive(PLAIN, groups, max_leaves=8)


def table_of(pattern: str, states: int = 4096, places: int = 16384) -> Table:
    return explore(Positions.of(regex_tree(pattern, Alphabet(list(LETTERS))), places), states, 1 << 18)


def transitions_of(pattern: str) -> Transitions:
    return table_of(pattern).transitions(range(len(LETTERS)), (1 << len(LETTERS)) - 1)


def walk(transitions: Transitions, text: str) -> int:
    state = 0
    for character in text:
        state = int(transitions.next[state, transitions.classes[LETTERS.index(character)]])
        if state == NOWHERE:
            break
    return state


@given(REGEXES, st.lists(st.text(LETTERS, max_size=7), min_size=20, max_size=20))
@settings(max_examples=300)
def test_a_table_accepts_what_python_s_re_matches(pattern: str, texts: list[str]) -> None:
    transitions = transitions_of(pattern)
    compiled = re.compile(pattern)
    for text in texts:
        state = walk(transitions, text)
        found = state != NOWHERE and bool(transitions.complete[state])
        assert found == (compiled.fullmatch(text) is not None), text


@given(REGEXES, st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_the_shortest_way_leads_to_a_match_of_that_length(pattern: str, random: "st.DataObject") -> None:
    transitions = transitions_of(pattern)
    length = int(transitions.shortest[0])
    if length == NEVER:
        assert "x" in pattern  # which the alphabet lacks
        return
    text, state = "", 0
    for left in range(length, 0, -1):
        columns = transitions.allowed(state, left).nonzero()[0].tolist()
        column = random.choice(columns)  # type: ignore[attr-defined]
        text += LETTERS[column]
        state = int(transitions.next[state, transitions.classes[column]])
    assert re.fullmatch(pattern, text)
    assert not transitions.allowed(0, length - 1).any() or length == 0


HOSTILE: dict[str, Callable[[], str]] = {
    "a state for each of the last letters": lambda: "[ab]*a[ab]{20}",
    "nested counts": lambda: "((a{100}){100}){100}",
    "counts of nothing": lambda: "(a{0}){1000000000}b",
    "optional after optional": lambda: "a?" * 4000,
    "many ways to count": lambda: "(?:(?:a?){50}){50}" * 3,
    "nested open counts": lambda: "(.{0,500}){0,5}a",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pattern_has_no_table_and_little_is_done_for_it(name: str) -> None:
    with pytest.raises(NotRegular, match=r"more than|too many"):
        table_of(HOSTILE[name]())


@pytest.mark.parametrize("pattern", [r"a\b", "a(?=b)", r"(a)\1", "(?i)a", "(?i:a)", "[[a]b]", "[a--b]", "(a", "a**"])
def test_what_is_not_plainly_regular_has_no_table(pattern: str) -> None:
    with pytest.raises(NotRegular):
        table_of(pattern)


def test_limits_are_counted() -> None:
    assert len(table_of("a{30}").next) == 31
    with pytest.raises(NotRegular, match="30 states"):
        table_of("a{30}", states=30)
    with pytest.raises(NotRegular, match="20 places"):
        table_of("a{30}", places=20)
