"""Constraints compiled: which have exact tables, what is refused and how it is said, and that llguidance agrees."""

import json
import re
from typing import Any

import jsonschema
import pytest

from model.constraints.compiling import compiled
from model.constraints.constraint import Constraint, Kind, Limits
from model.constraints.vocabulary import Vocabulary
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from tests.model.constraints.written import CHECKPOINT, VOCABULARY, constraint, write
from tests.model.small import small_checkpoint

FIVE_FIELDS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "email": {"type": "string", "minLength": 3},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
        "active": {"type": "boolean"},
    },
    "required": ["name", "age", "email", "tags", "active"],
}
NULL = {"type": "null"}
NULLS = dict.fromkeys("abc", NULL)
REGULAR: tuple[Any, ...] = (
    FIVE_FIELDS,
    {"type": "string"},
    {"type": "number"},
    *({"type": "integer", "minimum": low} for low in (-77, 0, 7, 1000)),
    *({"type": "integer", "maximum": high} for high in (-77, -1, 0, 77)),
    *(
        {"type": "integer", "minimum": low, "maximum": high}
        for low, high in ((-15, 1203), (3, 3), (-40, -7), (98, 1002))
    ),
    {"type": ["string", "null"], "maxLength": 3},
    {"const": 'a"b\\é'},
    {"enum": [1, "x", None, True, {"a": [1]}]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2},
    {"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 4},
    {"type": "array", "items": {"type": "boolean"}, "maxItems": 0},
    {"type": "object", "properties": NULLS},
    {"type": "object", "properties": NULLS, "required": ["b"]},
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"$defs": {"word": {"type": "string", "maxLength": 4}}, "type": "array", "items": {"$ref": "#/$defs/word"}},
    {"anyOf": [{"type": "string", "minLength": 2}, {"type": "integer"}]},
    {"type": "string", "pattern": r"^[a-z]{2,4}\d$"},
    {"type": "string", "pattern": "[x-z]$"},
    {"type": "string", "pattern": "^a.b"},
    {"type": "string", "pattern": r'^[^"a-z]*\\\\$'},
    {"type": ["string", "integer"], "enum": [1, "x", None, "y"], "title": "kind"},
    {"type": "number", "enum": [1, 2.5, "x"]},
    {"type": "boolean", "const": True},
    {"type": "integer", "format": "int32", "maxLength": 4, "x-note": {"type": "string"}, "id": "number"},
    {"type": "string", "format": "nickname", "maxLength": 4},
    {"minimum": 3, "type": "boolean"},
    {"maxLength": 2},
    {"type": "array", "items": {"const": "a"}, "uniqueItems": True, "maxItems": 1},
    {"type": "array", "items": {"$ref": "#"}, "uniqueItems": False},
    {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 12.5},
    {"type": "integer", "minimum": 0.5},
    *(
        {"type": "number", **bounds}
        for bounds in (
            {"minimum": 0},
            {"maximum": -0.25},
            {"minimum": 2, "maximum": 9.5},
            {"exclusiveMinimum": 0, "maximum": 1},
            {"minimum": 3, "maximum": 3},
            {"exclusiveMinimum": 0, "maximum": 0.1},
            {"exclusiveMinimum": 10, "exclusiveMaximum": 10.25},
            {"minimum": -0.25, "exclusiveMaximum": 0.0},
        )
    ),
    {"const": 12345678901234567},
    {"enum": [9007199254740993, 123456789012345678901234567890, "a"]},
    {"type": "array", "items": {"const": {"a1": 9007199254740993}}, "minItems": 1, "maxItems": 1},
    {"type": "array", "prefixItems": [{"type": "null"}, {"const": "a"}], "items": False},
    {"type": "array", "items": {"type": "boolean"}, "prefixItems": [{"const": 1}], "minItems": 1, "maxItems": 3},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}, "minItems": 3},
    {"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 40}]},
    {"$defs": {"a": {"type": "string", "maxLength": 3}}, "allOf": [{"$ref": "#/$defs/a"}]},
    {"allOf": [{"type": "object", "properties": {"a": NULL}, "required": ["a"]}, {"properties": {"b": NULL}}]},
    {"oneOf": [{"type": "string", "maxLength": 2}, {"type": "null"}, {"type": "integer", "minimum": 5}]},
    *({"type": "string", "format": name} for name in ("date", "time", "date-time", "uuid", "ipv4")),
)
STEP_BY_STEP: tuple[Any, ...] = (
    {"type": "object", "minProperties": 1},
    {"type": "object", "properties": {"a": NULL}, "required": ["a"], "minProperties": 2, "maxProperties": 2},
    {"type": "string", "format": "email"},
    {"type": "number", "multipleOf": 0.5},
    {"type": "number", "minimum": -1.5, "maximum": 100},
    {"type": "number", "exclusiveMinimum": -0.75, "exclusiveMaximum": 0.125},
    {"type": "object", "properties": {"a": {"type": "integer"}}, "patternProperties": {"^b": {"type": "boolean"}}},
)


def refusal(kind: Kind, source: str, **limits: int) -> str:
    with pytest.raises(ParameterError) as error:
        compiled(Constraint(kind, source, "field"), VOCABULARY, Limits(**limits))
    assert error.value.parameter == "field"
    return str(error.value)


@pytest.mark.parametrize("schema", REGULAR, ids=json.dumps)
def test_a_schema_of_ordinary_size_has_a_table(schema: Any) -> None:
    assert constraint("json_schema", json.dumps(schema)).exact


@pytest.mark.parametrize("pattern", ['^[^"a-z]*$', r"^[^\\]{1,4}$", r"^[^\x22]+"])
def test_what_a_pattern_leaves_out_is_not_written_with_a_backslash_either(pattern: str) -> None:
    schema = {"type": "string", "pattern": pattern}
    asked = constraint("json_schema", json.dumps(schema))
    assert asked.exact
    biased = {int(CHECKPOINT.tokenizer.encode("\\")[0]): 6.0}
    for seed in range(40):
        jsonschema.validate(json.loads(write(asked, seed=seed, logit_bias=biased).text), schema)
    without_table = {"type": "object", "patternProperties": {"^a": schema}, "additionalProperties": False}
    sentence = "field has a pattern that leaves out quotation marks or backslashes; name the characters"
    assert refusal("json_schema", json.dumps(without_table)).startswith(sentence)


@pytest.mark.parametrize("schema", [*REGULAR, *STEP_BY_STEP], ids=json.dumps)
def test_texts_of_a_schema_are_valid(schema: Any) -> None:
    asked = constraint("json_schema", json.dumps(schema))
    for seed in range(6):
        found = write(asked, max_tokens=90, seed=seed, temperature=1.5)
        if asked.exact or found.finish_reason == "stop":
            jsonschema.validate(json.loads(found.text), schema)


@pytest.mark.parametrize("schema", STEP_BY_STEP, ids=json.dumps)
def test_what_has_no_table_is_followed_step_by_step(schema: Any) -> None:
    assert not constraint("json_schema", json.dumps(schema)).exact


def test_an_object_that_lists_its_properties_has_no_others_unless_it_says_so() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}
    assert write(constraint("json_schema", json.dumps(schema))).text == '{"a":null}'
    opened = json.dumps({**schema, "additionalProperties": {"type": "null"}})
    texts = {write(constraint("json_schema", opened), seed=seed).text for seed in range(9)}
    assert any(text.startswith('{"a":null,"') for text in texts)


@pytest.mark.parametrize(
    ("kind", "source", "sentence"),
    [
        ("regex", "a(", r"field is no regular expression at character 2: unclosed group; .*"),
        ("regex", r"ab\p{No}[", r"field is no regular expression at character \d: .*"),
        ("regex", "a(?=b)", r".* at character 2: look-around, .* is not supported; .*"),
        ("regex", "ü+", r"field cannot be matched by the characters .* has seen: a text that matches needs 'ü'\."),
        ("regex", r"Ж(a|ü)Ω", r".* a text that matches needs 'Ω', 'Ж'\."),
        ("regex", r"(?i)[a-z]+ω", r".* a text that matches needs 'ω'\."),
        ("regex", r"\p{Lu}+\u0416?\u0414", r".* a text that matches needs 'Д'\."),
        ("regex", "", r"field is empty; send a pattern, or leave it out for free text\."),
        ("grammar", "", r"field is empty; send a pattern, or leave it out for free text\."),
        ("json_schema", "", r"field is no JSON at its end: a value is missing; send plain JSON\."),
        ("json_schema", '{"type":"object","patternProperties":{"b":{}},"required":["Ωм"]}', r".* needs 'Ω', 'м'\."),
        ("regex", r"\p{Cyrillic}", r"field cannot be matched by any text of the characters this model has seen\."),
        ("regex", "[^\\s\\S]", r"field cannot be matched .*"),
        ("regex", "a" * 9000, r"field has 9,000 characters; send at most 8,192\."),
        ("regex", "(" * 40 + "a" + ")" * 40, r"field nests more than 32 groups deep; .*"),
        ("regex", "((a{100}){100}){100}{100}", r"field .*"),
        ("choice", "[]", r"field is not a list of texts; .*"),
        ("choice", '["a", ""]', r"field is not a list of texts; .*"),
        ("choice", '["a", 1]', r"field is not a list of texts; .*"),
        ("choice", '["ж", "дa"]', r".* needs '[жд]'\."),
        ("json_schema", "{", r"field is no JSON at its end: a name in double quotes is missing; send plain JSON\."),
        ("json_schema", '{"a":1,}', r"field is no JSON at character 8: a name in double quotes is missing; .*"),
        ("json_schema", '{"a" 1}', r"field is no JSON at character 6: a colon is missing; send plain JSON\."),
        ("json_schema", '{"a":[1 2]}', r"field is no JSON at character 9: a comma or a closing bracket is missing; .*"),
        ("json_schema", '{"a":"x', r"field is no JSON at character 6: the string that begins there has no end; .*"),
        ("json_schema", '{"a":1} x', r"field is no JSON at character 9: something follows the whole value; .*"),
        ("regex", "ab\\", r"field is no regular expression at character 3: a backslash stands before nothing; .*"),
        ("json_schema", '{"pattern":"a\\\\"}', r"field has a pattern that is no regular expression at character 2: .*"),
        ("json_schema", '{"pattern":"a("}', r"field is .*: one of its patterns is no regular expression\."),
        ("json_schema", '{"oneOf":[{"type":"string"},{"maxLength":2}]}', r".*: one value may match two parts .*"),
        ("json_schema", '{"type":"array","uniqueItems":true}', r".*: it says uniqueItems, which is not .*"),
        (
            "json_schema",
            '{"allOf":[{"type":"string"},{"type":"null"}]}',
            r".*: no value is valid: incompatible types\.",
        ),
        ("json_schema", "[1]", r"field is no JSON schema; send a JSON object\."),
        ("json_schema", '{"a":' * 40 + "1" + "}" * 40, r"field is no JSON \(it nests more than 32 deep\); .*"),
        (
            "json_schema",
            '{"type":"nothing"}',
            r"field is no JSON schema that can be followed: there is no type nothing\.",
        ),
        (
            "json_schema",
            '{"$ref":"http://127.0.0.1:9/schema"}',
            r"field is .*: it refers to http://127\.0\.0\.1:9/schema, and nothing is fetched; .*",
        ),
        ("json_schema", '{"$ref":"#/$defs/none"}', r".*: it refers to #/\$defs/none, which it does not have\."),
        ("json_schema", '{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}', r"field .*"),
        (
            "json_schema",
            '{"type":"string","format":"regex"}',
            r".*: the format regex is not followed; leave it out, or write a pattern\.",
        ),
        ("json_schema", '{"type":"string","minLength":5,"maxLength":2}', r".*: no value is valid: .*"),
        ("json_schema", '{"type":"integer","minimum":5,"maximum":2}', r".*: no value is valid: .*"),
        ("json_schema", '{"const":"' + "a" * 200_000 + '"}', r"field has 200,\d+ characters; send at most 65,536\."),
        ("json_schema", "false", r"field is the schema that no value is valid by; send a JSON object\."),
        ("regex", "a$b", r"field cannot be followed \(\$ may stand only where the text ends; leave it out\); .*"),
        ("regex", "(a|^b)^c", r"field cannot be followed \(\^ may stand only where the text begins; .*\); see .*"),
        (
            "regex",
            r"a\bword",
            r"field cannot be followed \(edges of words, such as \\b, are not followed; .*\); see .*",
        ),
        ("json_schema", r'{"pattern":"a$b"}', r"field is .* can be followed \(\$ may stand only where .*\); see .*"),
        ("grammar", "start: /a$b/", r"field is no grammar at line 1, column 8: \$ may stand only where .*"),
        (
            "json_schema",
            '{"minProperties":3,"additionalProperties":{"type":"null"}}',
            r"field has minProperties beyond .*",
        ),
        (
            "json_schema",
            '{"patternProperties":{"a":{}},"properties":{"b":{"const":9007199254740993}}}',
            r".* beyond .*",
        ),
        (
            "json_schema",
            '{"patternProperties":{"a":{"exclusiveMinimum":0,"maximum":0.1,"type":"number"}}}',
            r"field has an exclusive bound of a number whose two bounds share their whole part, .*",
        ),
        ("json_schema", '{"type":"number","minimum":1e30}', r".*: a bound of a number is too large to be followed; .*"),
        ("json_schema", '{"type":"number","minimum":"a"}', r".*: the value of minimum has the wrong type\."),
        ("json_schema", "\ufeff{}", r"field is no JSON at character 1: a byte-order mark stands before the JSON; .*"),
        (
            "json_schema",
            '{"type":"string","format":"ipv4","pattern":"^256"}',
            r".*: no text is valid by its pattern and .*",
        ),
        ("allowed_ids", '["a"]', r"field is not a list of ids; .*"),
        ("allowed_ids", "[5, 99999]", r"field has no id that this model draws; .*"),
        ("bad_words", json.dumps(VOCABULARY.characters), r"field leaves no character to be drawn; .*"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_followed_is_refused_in_a_sentence(kind: Kind, source: str, sentence: str) -> None:
    assert re.fullmatch(sentence, refusal(kind, source)), refusal(kind, source)


def test_a_model_without_braces_writes_no_json() -> None:
    checkpoint = small_checkpoint()
    vocabulary = Vocabulary(checkpoint.tokenizer, Decoder(checkpoint).ids)
    with pytest.raises(ParameterError, match=re.escape("""needs '{', '}'""")):
        compiled(Constraint("json_object", "", "response_format"), vocabulary)
    schema = {"type": "object", "properties": {"a": {"const": None}}, "required": ["a"]}
    with pytest.raises(ParameterError, match=re.escape("""needs '"', ':', '{', '}'""")):
        compiled(Constraint("json_schema", json.dumps(schema), "response_format"), vocabulary)


def test_the_least_max_tokens_is_named() -> None:
    asked = constraint("regex", r"\d{4}-\d{2}-\d{2}")
    with pytest.raises(ParameterError, match=r"max_tokens is 9; .* has 10: choose at least that") as error:
        asked.check(9)
    assert error.value.parameter == "max_tokens"
    asked.check(10)


@pytest.mark.parametrize(
    ("kind", "source", "exact"),
    [
        ("regex", "[ab]*a[ab]{20}", False),
        ("regex", "(.{0,500}){0,5}x", False),
        ("regex", "(a|b|c)*(d|e)*" * 500, False),
        ("regex", "|".join(f"word{number}" for number in range(800)), True),
        ("choice", json.dumps([f"{number:05}" for number in range(6000)]), True),
        ("choice", json.dumps(["a" * length for length in range(1, 200)]), False),
        ("json_schema", json.dumps({"type": "string", "maxLength": 60_000}), False),
        ("json_schema", json.dumps({"enum": [f"{number:05}" for number in range(3000)]}), True),
        ("grammar", 'start: "a" start? "b"', False),
        ("grammar", 'root ::= "[" (root ("," root)*)? "]"', True),
        ("grammar", "start: /[ab]*a[ab]{200}/", False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_large_and_recursive_patterns_are_followed(kind: Kind, source: str, exact: bool) -> None:
    asked = constraint(kind, source)
    assert asked.exact is exact
    assert asked.nbytes < 2 << 20
    found = write(asked, max_tokens=80)
    assert found.text or source.startswith("(a|b|c)*")


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("regex", "((a{100}){100}){100}"),
        ("grammar", "start: a0\n" + "\n".join(f"a{at}: a{at + 1} a{at + 1}" for at in range(40)) + '\na40: "x"'),
        ("grammar", "root ::= " + "(" * 20_000),
        ("choice", json.dumps([f"{number:05}" for number in range(8000)])),
    ],
    ids=lambda value: value[:40],
)
def test_what_would_take_too_much_is_refused(kind: Kind, source: str) -> None:
    assert re.search(r"more work|very many|32 groups|send at most", refusal(kind, source))
