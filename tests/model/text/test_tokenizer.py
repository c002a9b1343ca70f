"""The tokenizer: every Unicode text encodes, decodes back to itself, and encodes as Hugging Face `tokenizers` would."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.errors import TokenizerError
from model.text.tokenizer import BLOCK, CharacterCounts, Tokenizer
from model.text.utf8_ids import BYTES, begins_character, count_characters

ANY_TEXT = st.text()  # every code point but surrogates
KNOWN = "\n\r\0 abc<0x41>eé\u0301日本😀\u2028"
MIXED = st.text(st.one_of(st.sampled_from(KNOWN), st.characters(codec="utf-8")), max_size=60)
STRANGE = "<0x41>\0\r\n\u2028e\u0301\U0001f469\u200d\U0001f680\ufeff\U0010ffff\ud7ff\ue000"


def library(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(tokenizer.to_json())


def assert_alike(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text).tolist() == library(tokenizer).encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("min_count", [1, 2, 5, 50])
@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("tinyshakespeare.txt", "utf-8"),
        ("tang-poems.txt", "utf-8"),
        ("genesis-french.latin1.txt", "latin-1"),
        ("fra-eng.txt", "utf-8"),
    ],
)
def test_a_real_corpus_encodes_as_the_hugging_face_library_encodes_it(
    name: str, encoding: str, min_count: int, corpus: Callable[[str], bytes]
) -> None:
    text = corpus(name).decode(encoding)
    learnt, unread = text[:20_000], text[len(text) // 2 : len(text) // 2 + 4_000]
    tokenizer = Tokenizer.learn([learnt], min_count)
    for part in (learnt[:4_000], unread):
        assert_alike(tokenizer, part)
        assert tokenizer.decode(tokenizer.encode(part)) == part


@example(STRANGE, STRANGE)
@example("a", STRANGE)
@given(st.text(min_size=1), ANY_TEXT)
def test_any_vocabulary_encodes_any_text_as_the_hugging_face_library_does(learnt: str, text: str) -> None:
    assert_alike(Tokenizer.learn([learnt]), text)


@given(MIXED)
def test_text_of_known_and_unknown_characters_encodes_as_the_hugging_face_library_does(text: str) -> None:
    assert_alike(Tokenizer.learn([KNOWN]), text)


@example("a", STRANGE)
@settings(max_examples=300)
@given(st.text(min_size=1), ANY_TEXT)
def test_decoding_undoes_encoding_for_every_unicode_text(learnt: str, text: str) -> None:
    tokenizer = Tokenizer.learn([learnt])
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids.tolist()) == text
    assert count_characters(ids) == len(text)
    assert [
        tokenizer.decode(part.tolist()) for part in np.split(ids, np.flatnonzero(begins_character(ids)))[1:]
    ] == list(text)


def test_a_known_character_is_one_id_and_an_unknown_one_its_utf8_bytes() -> None:
    tokenizer = Tokenizer("\nab")
    assert tokenizer.encode("ba\n").tolist() == [BYTES + 2, BYTES + 1, BYTES]
    assert tokenizer.encode("aéb月😀").tolist() == [257, *"é".encode(), 258, *"月".encode(), *"😀".encode()]
    assert tokenizer.encode("").tolist() == []
    assert [tokenizer.piece(token) for token in (0xE4, 257)] == ["<0xE4>", "a"]


def test_a_character_rarer_than_min_count_is_left_to_the_bytes() -> None:
    assert Tokenizer.learn(["aab", "bcd"], min_count=2).characters == "ab"
    assert Tokenizer.learn(["aab", "bcd"]).characters == "abcd"
    with pytest.raises(TokenizerError, match="at least one character"):
        Tokenizer.learn(["abc"], min_count=2)


def test_an_empty_prompt_starts_from_a_line_break_or_else_the_first_character() -> None:
    assert Tokenizer("ab\n").start_id == BYTES + 2
    assert Tokenizer("ab").start_id == BYTES


@pytest.mark.parametrize("text", ["\ud800", "ab\udfff", "\ude00\ud83d"])
def test_half_of_a_surrogate_pair_is_refused_with_its_place(text: str) -> None:
    tokenizer = Tokenizer("ab")
    place = next(at for at, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    for refuse in (tokenizer.encode, CharacterCounts().update, Tokenizer):
        with pytest.raises(TokenizerError, match=rf"surrogate pair at character {place}; send whole Unicode"):
            refuse(text)


def test_the_place_of_a_refused_character_counts_from_the_start_of_a_long_text() -> None:
    text = "a" * (BLOCK + 5) + "\ud800"
    for refuse in (Tokenizer("a").encode, CharacterCounts().update):
        with pytest.raises(TokenizerError, match=f"at character {BLOCK + 5:,};"):
            refuse(text)


def test_a_text_longer_than_a_block_encodes_as_its_parts_do() -> None:
    tokenizer = Tokenizer("\nab")
    text = "ab月\n" * (BLOCK // 3)
    parts = [tokenizer.encode(text[start : start + 99_991]) for start in range(0, len(text), 99_991)]
    assert np.array_equal(tokenizer.encode(text), np.concatenate(parts))


def test_counting_by_blocks_equals_counting_at_once() -> None:
    counts = CharacterCounts()
    for block in ("aab", "", "b月"):
        counts.update(block)
    assert {chr(point): int(counts.counts[point]) for point in np.flatnonzero(counts.counts)} == {
        "a": 2,
        "b": 2,
        "月": 1,
    }


def test_ids_take_two_bytes_until_the_vocabulary_needs_four() -> None:
    small = Tokenizer("ab")
    every = Tokenizer("".join(chr(point) for point in range(0x11000) if not 0xD800 <= point < 0xE000))
    assert [small.encode("a").itemsize, every.encode("a").itemsize] == [2, 4]
    assert every.decode(every.encode("a月\U00010fff😀").tolist()) == "a月\U00010fff😀"


@pytest.mark.parametrize(("line", "ids_each"), [("the quick brown fox\n", 1), ("天地玄黃宇宙洪荒日月盈昃", 3)])
def test_encoding_takes_at_most_eight_bytes_a_character_beyond_the_text(line: str, ids_each: int) -> None:
    text = line * (5_000_000 // len(line))
    tokenizer = Tokenizer("\n abcdefghijklmnopqrstuvwxyz")
    tracemalloc.start()
    try:
        ids = tokenizer.encode(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(ids) == ids_each * len(text)
    assert peak <= 8 * len(text)
