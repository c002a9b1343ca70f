"""Ten thousand texts of two hundred schemas and fifty regular expressions, which all match; `make large` runs this."""

import json
import random
import re
from typing import Any

import jsonschema
import pytest

from model.checkpoint import load, named_checkpoint
from model.constraints.compiling import compiled
from model.constraints.constraint import Constraint
from model.constraints.vocabulary import Vocabulary
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.generate import generate
from model.sampling.parameters import SamplingParameters
from tests.model.constraints.written import constraint, write

pytestmark = [pytest.mark.large, pytest.mark.timeout(1200)]

SCHEMAS, REGEXES, TEXTS = 200, 50, 40
LEAVES: tuple[dict[str, Any], ...] = (
    {"type": "string", "maxLength": 12},
    {"type": "string", "minLength": 2, "maxLength": 5},
    {"type": "string", "format": "date"},
    {"type": "string", "pattern": "^[A-Z]{2,3}-\\d{2}$"},
    {"type": "integer"},
    {"type": "integer", "minimum": -5, "maximum": 1_000},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "null"},
    {"enum": ["red", "green", 7, None, "blé"]},
    {"const": {"kind": ["a", 1]}},
    {"type": ["string", "null"], "maxLength": 4},
    {"type": "number", "minimum": 0, "maximum": 9.5},
    {"type": "array", "prefixItems": [{"type": "null"}, {"enum": ["x", "y"]}], "items": {"const": 0}, "maxItems": 4},
    {"allOf": [{"type": "integer"}, {"exclusiveMinimum": 0}, {"maximum": 40}]},
    {"oneOf": [{"type": "boolean"}, {"type": "string", "maxLength": 2}]},
)
PARTS = (
    "[A-Z][a-z]+",
    "[a-z]{2,6}",
    "( [a-z]+)?",
    "[,;]",
    "(O|Ah), ",
    "[A-Za-z]",
    "(lord|king|queen)",
    " and ",
    "[^ ]{1,3}",
    "e*",
)


def random_schema(source: random.Random, depth: int) -> dict[str, Any]:
    """A schema with a table: objects and lists of leaves, not very deep."""
    kind = source.random()
    if depth == 0 or kind < 0.3:
        return source.choice(LEAVES)
    if kind < 0.5:
        least = source.randrange(3)
        return {
            "type": "array",
            "items": random_schema(source, depth - 1),
            "minItems": least,
            "maxItems": least + source.randrange(1, 3),
        }
    if kind < 0.6:
        return {"anyOf": [random_schema(source, depth - 1), random_schema(source, depth - 1)]}
    names = [f"{source.choice('abcdef')}{at}" for at in range(source.randrange(1, 4))]
    properties = {name: random_schema(source, depth - 1) for name in names}
    return {"type": "object", "properties": properties, "required": [one for one in names if source.random() < 0.7]}


def test_texts_of_schemas_are_valid_and_none_is_cut() -> None:
    source = random.Random(1)
    exact = 0
    for number in range(SCHEMAS):
        schema = random_schema(source, 2)
        asked = constraint("json_schema", json.dumps(schema))
        exact += asked.exact
        least = 0 if asked.transitions is None else int(asked.transitions.shortest[0])
        validator = jsonschema.Draft202012Validator(schema)
        for seed in range(TEXTS):
            most = least + source.choice((0, 1, 2, 5, 20, 200))
            found = write(asked, max_tokens=most, seed=seed + 1000 * number, temperature=source.choice((0.7, 1.0, 2.0)))
            if asked.exact or found.finish_reason == "stop":
                assert validator.is_valid(json.loads(found.text)), (schema, found)
    assert exact >= SCHEMAS * 0.95


def test_texts_of_the_bundled_model_match_their_patterns() -> None:
    source = random.Random(2)
    checkpoint = load(named_checkpoint(None))
    decoder = Decoder(checkpoint)
    vocabulary = Vocabulary(checkpoint.tokenizer, decoder.ids)
    for number in range(REGEXES):
        pattern = "".join(source.choices(PARTS, k=source.randrange(1, 6)))
        asked = compiled(Constraint("regex", pattern), vocabulary)
        assert asked.transitions is not None
        least = int(asked.transitions.shortest[0])
        with pytest.raises(ParameterError):
            asked.check(least - 1)
        for seed in range(TEXTS):
            parameters = SamplingParameters(seed=seed + 1000 * number, temperature=source.choice((0, 0.7, 1.0, 2.0)))
            most = least + source.choice((0, 1, 2, 5, 20, 200))
            pieces = generate(
                decoder, checkpoint.tokenizer, "The ", max_tokens=most, parameters=parameters, constraint=asked
            )
            text = "".join(piece.text for piece in pieces)
            assert re.fullmatch(pattern, text), (pattern, text)
            assert len(text) <= most


def test_there_are_ten_thousand() -> None:
    assert (SCHEMAS + REGEXES) * TEXTS == 10_000
