"""Objects and lists that stand inside themselves: exact as other tables are, up to a stated depth."""

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.constraints.compiling import Compiled
from model.constraints.compiling import stepwise as without_table
from model.constraints.constraint import Constraint
from model.sampling.transitions import DEEPEST, Transitions, Walk
from tests.model.constraints.written import DECODER, VOCABULARY, constraint, numpy_decoder, write

CHAIN = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": ["object", "null"],
            "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
            "required": ["value", "next"],
        }
    },
}
TREE: dict[str, Any] = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"a": {"type": "boolean"}, "c": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["c"],
            "additionalProperties": False,
        }
    },
}
OTHERS = {
    "type": "object",
    "properties": {"abc": {"type": "integer"}, "abd": {}},
    "required": ["abd"],
    "additionalProperties": {"type": ["boolean", "array"]},
}
NESTED: tuple[dict[str, Any], ...] = (
    {},
    {"type": "object"},
    {"type": "array"},
    {"type": "array", "items": {"type": "array", "minItems": 1}, "minItems": 2},
    {"type": "object", "properties": {"list": {"type": "array"}, "any": True, "other": {"type": ["object", "null"]}}},
    {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}},
    CHAIN,
    TREE,
    OTHERS,
)
LEAVES = st.sampled_from([None, True, False, 0, -7, 20, 1.5, 2e30, "", "a", 'a"\\', "é", "abc"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "c", "abc", "abd", "ab", "value", "next"]), inner, max_size=3),
    ),
    max_leaves=8,
)


def followed(schema: dict[str, Any]) -> Compiled:
    """The same without a table, by llguidance."""
    return without_table(Constraint("json_schema", json.dumps(schema)), VOCABULARY)


def accepts(asked: Compiled, text: str) -> bool:
    """Whether a text is a whole one."""
    walk: Walk = asked.walk(1 << 20)
    for character in text:
        column = VOCABULARY.columns.index(VOCABULARY.characters.index(character))
        if walk.ended is not None or not walk.take(column):
            return False
    return walk.free if walk.ended is None else walk.ended == "stop"


@pytest.mark.parametrize("schema", NESTED, ids=json.dumps)
def test_texts_are_whole_however_few_characters_they_may_have(schema: dict[str, Any]) -> None:
    asked = constraint("json_schema", json.dumps(schema))
    assert asked.transitions is not None
    least = int(asked.transitions.shortest[0])
    for seed in range(60):
        draws: dict[str, Any] = {"seed": seed, "temperature": (0.5, 1, 3)[seed % 3], "max_tokens": least + seed}
        found = write(asked, **draws)
        jsonschema.validate(json.loads(found.text), schema)
        assert found == write(asked, decoder=numpy_decoder(), **draws)


@pytest.mark.parametrize("schema", NESTED, ids=json.dumps)
@given(value=VALUES, cut=st.integers(0, 200))
@settings(max_examples=40)
def test_a_table_accepts_what_llguidance_accepts(schema: dict[str, Any], value: Any, cut: int) -> None:
    asked, other = constraint("json_schema", json.dumps(schema)), followed(schema)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for one in (text, text[:cut], text[:cut] + text[cut + 1 :]):
        assert accepts(asked, one) == accepts(other, one), one


@pytest.mark.parametrize("schema", [{"type": "object"}, CHAIN, TREE], ids=json.dumps)
def test_a_table_and_llguidance_write_the_same_text(schema: dict[str, Any]) -> None:
    asked, other = constraint("json_schema", json.dumps(schema)), followed(schema)
    same = 0
    for seed in range(40):
        found = write(asked, seed=seed, max_tokens=400, temperature=0.7)
        if found.finish_reason == "stop" and found.tokens < 300:  # it had room all the way
            assert write(other, seed=seed, max_tokens=400, temperature=0.7) == found
            same += 1
    assert same > 5


def test_any_json_object_is_never_cut() -> None:
    asked = constraint("json_object", "")
    assert asked.exact
    for seed in range(200):
        found = write(asked, seed=seed, max_tokens=2 + seed, temperature=1.5)
        assert isinstance(json.loads(found.text), dict)
        assert found.tokens <= 2 + seed


def test_a_model_that_wants_to_go_deeper_for_ever_is_stopped_at_the_depth_and_before_max_tokens() -> None:
    asked = constraint("json_schema", '{"type":"array"}')
    column = int(DECODER.ids[VOCABULARY.columns.index(VOCABULARY.characters.index("["))])
    for max_tokens in (2, 9, 63, 64, 65, 200):
        for decoder in (DECODER, numpy_decoder()):
            found = write(asked, decoder=decoder, max_tokens=max_tokens, logit_bias={column: 100.0})
            json.loads(found.text)
            opened = re.match(r"\[*", found.text)
            assert opened is not None
            assert opened.end() == min(DEEPEST, max_tokens // 2)
            assert found.finish_reason in ("stop", "length")


def test_a_table_with_calls_survives_being_sent() -> None:
    table = constraint("json_object", "").transitions
    assert table is not None
    read = Transitions.from_bytes(table.to_bytes(), *table.shape)
    assert len(read.calls) > 0
    for name in ("classes", "next", "shortest", "complete", "calls", "depths"):
        assert (getattr(read, name) == getattr(table, name)).all(), name
    assert read.nbytes == table.nbytes


def test_what_begins_alike_or_multiplies_is_followed_step_by_step() -> None:
    alike = {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "object"}], "$defs": TREE["$defs"]}
    doubled: dict[str, Any] = {
        f"d{level}": {
            "type": "object",
            "properties": {
                "a": {"$ref": f"#/$defs/d{level + 1}"},
                "b": {"$ref": f"#/$defs/d{level + 1}"},
                "c": {"$ref": f"#/$defs/d{level}"},
            },
            "required": ["a", "b"],
        }
        for level in range(12)
    }
    multiplied = {"$ref": "#/$defs/d0", "$defs": {**doubled, "d12": {"type": "null"}}}
    for schema in (alike, multiplied):
        asked = constraint("json_schema", json.dumps(schema))
        assert not asked.exact
        assert write(asked).text.startswith("{")


def test_the_least_max_tokens_of_nested_parts_is_named() -> None:
    schema = {"type": "array", "items": TREE["$defs"]["node"], "minItems": 2, "$defs": TREE["$defs"]}
    asked = constraint("json_schema", json.dumps(schema))
    assert asked.transitions is not None
    assert int(asked.transitions.shortest[0]) == len('[{"c":[]},{"c":[]}]')
    assert write(asked, max_tokens=19).tokens == 19
