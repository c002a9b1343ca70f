"""Grammars in both notations: what is wrong with one is said in a sentence, with the place and what to change."""

import re

import pytest

from model.constraints.compiling import compiled
from model.constraints.constraint import Constraint
from model.errors import ParameterError
from tests.model.constraints.written import VOCABULARY, constraint, write

NEEDS = "cannot be matched by the characters this model has seen: a text that matches needs"


def refusal(source: str) -> str:
    with pytest.raises(ParameterError) as error:
        compiled(Constraint("grammar", source, "field"), VOCABULARY)
    assert error.value.parameter == "field"
    return str(error.value)


@pytest.mark.parametrize(
    ("source", "place", "reason"),
    [
        ("root ::= ", "at line 1, column 1", 'the rule root says nothing; write "" where the empty text is meant'),
        (
            "start: b\nb: // none",
            "at line 2, column 1",
            "the rule b says nothing; write",
        ),
        ('list: "a"', "at line 1, column 1", "no rule is named start; name so the one that the whole text matches"),
        (
            'a ::= "b"',
            "at line 1, column 1",
            "no rule is named root, as GBNF has it, or start, as Lark has it;",
        ),
        ('root ::= "a"\nroot ::= "b"', "at line 2, column 1", "there is a rule root before; leave one of them out"),
        ('start: "a"\nstart: "b"', "at line 2, column 8", "there is a rule start before; leave one of them out"),
        ("root ::= a", "at line 1, column 10", "the rule a is used, and not there; write it"),
        ('start: "a" none', "at line 1, column 8", "the rule none is used, and not there; write it"),
        ("root ::= (", "at its end", "')' is missing"),
        ('start: ("a"', "at its end", ") is missing"),
        ('root ::= "a', "at its end", "a quotation mark or bracket before has no end"),
        ('root := "a"', "at line 1, column 6", "::= is missing behind the name of a rule"),
        (
            'start: "a"\nb: $',
            "at line 2, column 4",
            "this is no part of a grammar; a quotation mark or slash may have no end,",
        ),
        ("start: /a(/", "at line 1, column 8", "no regular expression: unclosed group"),
        ('start: A\nA: "x" A', "at line 2, column 4", "the token A stands inside itself; write it in small letters"),
        ('{"type": "object"}', "at line 1, column 1", "the name of a rule is missing"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_broken_grammar_is_refused_with_the_place_and_the_remedy(source: str, place: str, reason: str) -> None:
    found = refusal(source)
    assert found.startswith(f"field is no grammar {place}: {reason}"), found
    assert found.endswith("; see docs/constraints.md for the notation.")


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        ('start: "Ω"', "'Ω'"),
        ('start: /[a-z]+/ "Ω"', "'Ω'"),
        ('start: /[a-z]{5}/ ("Ж" | "\\u0414" "Ω")', "'Ж'"),
        ("root ::= [а-я]+", "'а'"),
        ('root ::= "[" root "]" | [\\u0416] "x"', "'Ж'"),
    ],
    ids=str,
)
def test_characters_that_a_grammar_needs_and_the_model_has_not_seen_are_named(source: str, needed: str) -> None:
    assert refusal(source) == f"field {NEEDS} {needed}."


@pytest.mark.parametrize(
    "source",
    [
        'root ::= "Ω" | [a-z]+',
        'start: ("Ω" | "a")* "b"',
        'root ::= "[" root "]" | "Ω" | "x"',
        'start: /[a-zΩ]{30}!/ | "Ω"',
    ],
)
def test_a_grammar_that_can_do_without_them_is_followed(source: str) -> None:
    found = write(constraint("grammar", source), max_tokens=60, seed=2)
    assert found.text
    assert "Ω" not in found.text


def test_characters_may_be_written_by_their_numbers() -> None:
    source = 'root ::= "\\u0041\\U00000062" [\\u00e9] "\\x2d\\u6708\\u0022"'
    assert write(constraint("grammar", source), max_tokens=9).text == 'Abé-月"'


@pytest.mark.parametrize("source", ['root ::= root "a"', "start: x\nx: x", 'root ::= "a" root', 'start: "a" start'])
def test_a_grammar_that_never_ends_is_refused(source: str) -> None:
    assert refusal(source).startswith("field is matched by no text: a part of it never ends, or only after very many")


@pytest.mark.parametrize("source", ['root ::= ""', 'start: ""'])
def test_the_empty_text_can_be_asked_for(source: str) -> None:
    found = write(constraint("grammar", source), max_tokens=9)
    assert (found.text, found.finish_reason) == ("", "stop")


def test_alternatives_may_stand_on_lines_of_their_own() -> None:
    for source in ('start:\n  | "a"\n  | "b"', 'root ::=\n  "a" |\n  "b"'):
        assert re.fullmatch("[ab]?", write(constraint("grammar", source), max_tokens=9).text)


EXACT = {
    'root ::= "a" root? "b"': (r"(?s)a+b+", "ab"),
    'root ::= "[" (item ("," item)*)? "]"\nitem ::= [a-z]+ | root': (r"\[[a-z,\[\]]*\]", "[]"),
    'root ::= "Ω" | [a-z]{2,5} "-" num\nnum ::= [0-9]{3} # three': (r"[a-z]{2,5}-[0-9]{3}", ""),
    'root ::= pair pair\npair ::= "<" inside ">"\ninside ::= pair | [a-z]*': (r"(<+[a-z]*>+){2}", "<>"),
    'root ::= "\\"" [^"\\\\\\x7f]+ "\\"\\n"': (r'"[^"\\]+"\n', ""),
    'root ::= "\\[x\\]" [/\\]]': (r"\[x\][/\]]", ""),
    'root ::= ("a"{2}){3} (x{2}){2}\nx ::= "b" | "c" "d"': (r"a{6}(b|cd){4}", ""),
    'root ::= (((("a")+)) )? ("b"?){2} ([a-c]*)* "(a+)*" # (b)*': (r"a*b{0,2}[a-c]*\(a\+\)\*", ""),
}


@pytest.mark.parametrize("source", EXACT, ids=lambda source: source[:20])
def test_a_grammar_in_gbnf_has_a_table_and_is_never_cut(source: str) -> None:
    asked = constraint("grammar", source)
    assert asked.transitions is not None
    least = int(asked.transitions.shortest[0])
    pattern, brackets = EXACT[source]
    for seed in range(12):
        found = write(asked, max_tokens=least + seed, seed=seed)
        assert re.fullmatch(pattern, found.text), found
        assert len({found.text.count(bracket) for bracket in brackets}) <= 1


@pytest.mark.parametrize(
    "source",
    [
        'root ::= "(" root ")" root | ""',
        'root ::= "if " root " then" | "x"',
        'start: "a" start? "b"',
        "root ::= a0 a0\n" + "\n".join(f"a{at} ::= a{at + 1} a{at + 1}" for at in range(40)) + '\na40 ::= ""',
    ],
    ids=lambda source: source[:20],
)
def test_other_grammars_are_followed_step_by_step(source: str) -> None:
    assert not constraint("grammar", source).exact
