"""The tokenizer on disk: what was written reads back as itself, and anything else is refused with one kind of error."""

import json
from typing import Any

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.errors import TokenizerError
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES

WRITTEN = Tokenizer("\n abé月😀").to_json()
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def refused(text: str) -> None:
    with pytest.raises(TokenizerError, match=r"^This (is not a )?tokenizer\.json .+\.$"):
        Tokenizer.from_json(text)


def with_vocabulary(change: dict[Any, Any]) -> str:
    written = json.loads(WRITTEN)
    written["model"]["vocab"].update(change)
    return json.dumps(written)


@example("<0x41>\0\r\u2028\u0301😀\U0010ffff")
@given(st.text(min_size=1))
def test_a_vocabulary_written_and_read_is_itself(characters: str) -> None:
    tokenizer = Tokenizer.learn([characters])
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.characters == tokenizer.characters
    assert again.to_json() == tokenizer.to_json()


def test_the_order_of_the_characters_is_kept() -> None:
    assert Tokenizer.from_json(Tokenizer("zay").to_json()).characters == "zay"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '"text"',
        "1e999",
        "NaN",
        '{"model": null}',
        '{"model": {"vocab": []}}',
        '{"model": {"vocab": {}}}',
        '{"model": {"vocab": {"a": "256"}}}',
        '{"model": {"vocab": {"a": null}}}',
        '{"model": {"vocab": {"a": 256}}}',
        "[" * 100_000,
        '{"model": {"vocab": ' + "[" * 900 + "]" * 900 + "}}",
        '{"model": {"vocab": {"a": ' + "9" * 5_000 + "}}}",
        WRITTEN[:-2],
        WRITTEN + "x",
    ],
    ids=lambda text: text[:40],
)
def test_json_that_is_no_vocabulary_is_refused(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    "change",
    [
        {"x": 5},
        {"x": BYTES},
        {"x": BYTES + 4},
        {"x": BYTES + 9},
        {"x": -1},
        {"x": 10**30},
        {"x": 1e300},
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": True},
        {"xy": BYTES + 7},
        {"": BYTES + 7},
        {"\ud800": BYTES + 7},
        {"a": BYTES + 7},
        {"<0x00>": 1},
        {"<0x00>": BYTES + 7},
    ],
    ids=ascii,
)
def test_a_vocabulary_with_a_changed_entry_is_refused(change: dict[str, Any]) -> None:
    refused(with_vocabulary(change))


def test_one_more_character_in_its_place_is_a_vocabulary() -> None:
    assert Tokenizer.from_json(with_vocabulary({"x": BYTES + 7})).characters == "\n abé月😀x"


def test_vocabularies_of_other_kinds_are_refused() -> None:
    models = [
        tokenizers.models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]),
        tokenizers.models.BPE(vocab={"Ġ": 256, "a": 257}, merges=[]),
        tokenizers.models.WordLevel(vocab={"word": 256, "<unk>": 257}, unk_token="<unk>"),
        tokenizers.models.WordPiece(vocab={"##a": 300, "[UNK]": 301}, unk_token="[UNK]"),
        tokenizers.models.Unigram([("a", -1.0)], unk_id=0, byte_fallback=False),
    ]
    for model in models:
        foreign = tokenizers.Tokenizer(model)
        foreign.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
        foreign.decoder = tokenizers.decoders.ByteLevel()
        refused(str(foreign.to_str()))


@pytest.mark.parametrize("key", ["normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"])
def test_a_vocabulary_with_another_pipeline_is_refused(key: str) -> None:
    written = json.loads(WRITTEN)
    written[key] = {"type": "Lowercase"}
    refused(json.dumps(written))


def paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a JSON document stands."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(path for name, part in inner for path in paths(part, (*above, name)))]


PLACES = paths(json.loads(WRITTEN))


def meaning(value: Any) -> Any:
    """A document without what is set to nothing, which a version of the library may write or leave out."""
    if not isinstance(value, dict):
        return value
    return {name: meaning(part) for name, part in value.items() if part or name.startswith("<0x")}


@settings(max_examples=200)
@given(st.sampled_from(PLACES[1:]), JSON_VALUES)
def test_a_document_with_any_value_replaced_is_itself_or_refused(place: tuple[Any, ...], value: Any) -> None:
    written = json.loads(WRITTEN)
    inner = written
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    same = meaning(json.loads(WRITTEN)) == meaning(written)
    try:
        tokenizer = Tokenizer.from_json(json.dumps(written))
    except TokenizerError:
        assert not same
    else:
        assert meaning(json.loads(tokenizer.to_json())) == meaning(written)


@settings(max_examples=200)
@given(st.integers(0, len(WRITTEN) - 1), st.characters())
def test_a_document_with_any_character_replaced_is_a_vocabulary_or_refused(at: int, character: str) -> None:
    tampered = WRITTEN[:at] + character + WRITTEN[at + 1 :]
    try:
        tokenizer = Tokenizer.from_json(tampered)
    except TokenizerError:
        return
    assert meaning(json.loads(tokenizer.to_json())) == meaning(json.loads(tampered))
