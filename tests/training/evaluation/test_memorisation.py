"""What a sample copied: every figure against a search of the text itself, compiled and plain."""

import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model.checkpoint import BUNDLED, load
from model.decoding.decoder import Decoder
from model.errors import ParameterError
from model.generate import generate
from model.sampling.parameters import SamplingParameters
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids
from training.evaluation.memorisation import Copied, copied, describe, draw, in_text
from training.evaluation.suffix_automaton import BLOCK, LIBRARY, Agreement

NEEDS_COMPILER = pytest.param(True, marks=pytest.mark.skipif(LIBRARY is None, reason="matches.c was not compiled"))
READERS = pytest.mark.parametrize("compiled", [NEEDS_COMPILER, False])
PLANTED = "It was a bright cold day in April, and the clocks were striking thirteen."
LETTERS = Tokenizer("abcdefghijklmnopqrstuvwxyz .,I\n")


def searched(sample: str, corpus: str) -> list[int]:
    """The depth of each character, by looking for every passage."""
    return [
        max(length for length in range(end + 1) if sample[end - length : end] in corpus)
        for end in range(1, len(sample) + 1)
    ]


def longest_first(sample: str, corpus: str, least: int) -> list[tuple[int, int]]:
    """The longest passage of at least so many characters, the first of several; then the longest of what is left."""
    places = [(start, stop) for start in range(len(sample)) for stop in range(start + least, len(sample) + 1)]
    passages = [(start, stop) for start, stop in places if sample[start:stop] in corpus]
    if not passages:
        return []
    start, stop = max(passages, key=lambda passage: (passage[1] - passage[0], -passage[0]))
    rest = sample[:start] + "\n" * (stop - start) + sample[stop:]
    return [(start, stop), *longest_first(rest, corpus, least)]


def tells(passage: str, before: str = "") -> int:
    """How many characters tell something: not white space after white space, nor the third of equal ones in a row."""
    text = before[-2:] + passage
    return 1 + sum(
        not (text[at].isspace() and text[at - 1].isspace()) and text[at - 2 : at + 1] != 3 * text[at]
        for at in range(len(text) - len(passage) + 1, len(text))
    )


def noise(size: int, seed: int = 0, characters: str = "abcdefgh") -> str:
    return "".join(random.Random(seed).choices(characters, k=size))


def held_against(sample: str, corpus: str, tokenizer: Tokenizer = LETTERS) -> Copied:
    return copied(tokenizer.encode(sample), tokenizer.encode(corpus), tokenizer)


FEW = st.text("ab", min_size=1, max_size=40) | st.text("abcd", min_size=1, max_size=40)
FEW |= st.text("ab ", min_size=1, max_size=40)


@READERS
@given(sample=FEW, corpus=FEW, cuts=st.lists(st.integers(0, 40), max_size=4))
@example(sample="abcbc", corpus="bcbcb", cuts=[])  # a state that is split, and entered before and after
def test_depths_are_those_of_a_search_wherever_the_text_is_cut(
    compiled: bool, sample: str, corpus: str, cuts: list[int]
) -> None:
    agreement, ids = Agreement(LETTERS.encode(sample), compiled), LETTERS.encode(corpus)
    borders = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    for start, stop in pairwise(borders):
        agreement.read(ids[start:stop])
    expected = searched(sample, corpus)
    assert agreement.depths().tolist() == expected
    if longest := max(expected):
        end = expected.index(longest) + 1
        assert agreement.first(end, longest) == corpus.find(sample[end - longest : end])


@given(sample=FEW, corpus=FEW, least=st.integers(1, 6))
def test_every_figure_is_that_of_a_search(sample: str, corpus: str, least: int) -> None:
    lengths = (1, 2, 3, 8, 16)
    found = copied(LETTERS.encode(sample), LETTERS.encode(corpus), LETTERS, lengths)
    assert found.characters == len(sample)
    grams = {n: [sample[at : at + n] for at in range(len(sample) - n + 1)] for n in lengths if n <= len(sample)}
    assert found.novel == {n: sum(gram not in corpus for gram in every) / len(every) for n, every in grams.items()}
    depths = searched(sample, corpus)
    passages = [(sample[end - depth : end], sample[: end - depth]) for end, depth in enumerate(depths, 1) if depth]
    best = max(passages, key=lambda one: (tells(*one), len(one[0])), default=("", ""))  # the first of several
    assert found.longest == best[0]
    assert found.length == len(found.longest)
    assert found.begins_in_corpus == (corpus.find(found.longest) if found.longest else None)
    telling = [(a, b) for a, b in longest_first(sample, corpus, least) if tells(sample[a:b], sample[:a]) >= least]
    assert found.stretches(least) == sorted(telling)


@pytest.mark.skipif(LIBRARY is None, reason="matches.c was not compiled")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_matches_in_c_reads_as_python_does(dtype: type[np.unsignedinteger]) -> None:
    """Many symbols and few, of which the sample knows some, over more than one block; every place and every best."""
    chance = np.random.default_rng(1)
    for size, alphabet in ((2000, 4), (300, 200), (40, 250), (1, 3), (50, 1)):
        sample = chance.integers(0, alphabet, size).astype(dtype)
        text = chance.integers(0, min(alphabet + 5, 256), BLOCK + 999).astype(dtype)
        text[BLOCK - 20 : BLOCK + 20] = np.resize(sample, 40)
        readers = [Agreement(sample, compiled) for compiled in (True, False)]
        for reader in readers:
            reader.read(text)
        ours, plain = readers
        assert ours._best.tolist() == plain._best.tolist()
        assert ours._where.tolist() == plain._where.tolist()
        assert ours._now.tolist() == plain._now.tolist()
        assert ours.depths().max() >= min(size, 40)


@pytest.mark.parametrize("place", [0, 7, BLOCK - 30, BLOCK, 2 * BLOCK - 1])
def test_a_planted_passage_is_found_with_its_length_and_place(place: int) -> None:
    corpus = noise(2 * BLOCK + 500)
    corpus = corpus[:place] + PLANTED + corpus[place:] + PLANTED
    found = held_against("xyz" + PLANTED + "xyz", corpus)
    assert (found.longest, found.length, found.begins_in_corpus) == (PLANTED, len(PLANTED), place)
    assert found.stretches(32) == [(3, 3 + len(PLANTED))]
    grams = len(PLANTED) + 6 - 32 + 1
    assert found.novel[32] == pytest.approx(6 / grams)


def test_a_part_of_the_corpus_is_copied_whole() -> None:
    corpus = noise(5000)
    found = held_against(corpus[1000:1500], corpus)
    assert found.novel == {8: 0, 16: 0, 32: 0}
    assert (found.longest, found.begins_in_corpus) == (corpus[1000:1500], 1000)
    assert found.stretches() == [(0, 500)]
    assert describe(found).endswith("Novel: 0 % of 8-grams, 0 % of 16-grams, 0 % of 32-grams.")


def test_a_text_of_one_character_repeated() -> None:
    found = held_against("a" * 3000, "a" * 2000 + "b" + "a" * 2500)
    assert (found.length, found.begins_in_corpus) == (2500, 2001)
    assert found.stretches() == []  # such a passage tells nothing
    assert found.stretches(2) == [(0, 2500)]


def test_indentation_and_ruled_lines_are_no_copies() -> None:
    corpus = "def a(b):\n" + " " * 40 + "return the.same.value\n" + "#" * 70 + "\n"
    tokenizer = Tokenizer("abcdefghijklmnopqrstuvwxyz(): \n.#")
    found = held_against(
        "x" + " " * 40 + "x.same.valuex" + "#" * 70 + "x\n" + " " * 40 + "return the.samex", corpus, tokenizer
    )
    assert found.longest == "\n" + " " * 40 + "return the.same"
    assert found.stretches(12) == [(125, 125 + 56)]


def test_what_the_corpus_has_nowhere_is_novel() -> None:
    found = held_against("xyz" * 20, noise(1000))
    assert (found.length, found.longest, found.begins_in_corpus) == (0, "", None)
    assert found.novel == {8: 1, 16: 1, 32: 1}
    assert found.stretches() == []
    assert describe(found, "drawn") == "Of 60 characters drawn, none stands in the corpus."
    empty = held_against("xyz", "")
    assert (empty.length, empty.novel) == (0, {})


def test_a_character_in_bytes_counts_as_its_bytes() -> None:
    """Unknown to the vocabulary, é and è share their first byte of two, and 月 has three."""
    found = held_against("caf\u00e9 月 zzz", "the caf\u00e9 月, ef\u00e8")
    assert (found.longest, found.length, found.characters) == ("caf\u00e9 月", 9, 10)
    assert found.begins_in_corpus == 4
    cut = held_against("f\u00e9", "ef\u00e8")
    assert (cut.longest, cut.length) == ("f\ufffd", 2)
    sample = LETTERS.encode("q月caf\u00e9 月!")
    text, places = in_text(sample, [(4, 13)], LETTERS)
    assert (text, places) == ("q月caf\u00e9 月!", [(2, 8)])


def test_chinese_and_a_text_beyond_the_sample_s_ids() -> None:
    characters = "".join(map(chr, range(0x4E00, 0x4E00 + 9728)))
    tokenizer = Tokenizer(characters)
    corpus = noise(30_000, 2, characters)
    sample = corpus[20_000:20_040] + noise(300, 3, characters[:50]) + corpus[40:140]
    found = held_against(sample, corpus, tokenizer)
    assert (found.longest, found.begins_in_corpus) == (corpus[40:140], 40)
    assert found.stretches(8) == [(0, 40), (340, 440)]
    assert found.depth[:40].tolist() == list(range(1, 41))


def test_a_memory_map_is_read_as_an_array_is(tmp_path: Path) -> None:
    corpus, sample = LETTERS.encode(noise(3 * BLOCK + 7)), LETTERS.encode(noise(500, 9))
    corpus.tofile(tmp_path / "ids")
    mapped: Ids = np.memmap(tmp_path / "ids", corpus.dtype, "r")
    found, expected = copied(sample, mapped, LETTERS), copied(sample, corpus, LETTERS)
    assert found == expected
    assert found.depth.tolist() == expected.depth.tolist()
    assert 4 <= found.length < 16


def test_the_sentences() -> None:
    def made(length: int = 12, longest: str = "to be,\n\nor not", **novel: float) -> str:
        shares = {int(name.removeprefix("n")): share for name, share in novel.items()}
        return describe(
            Copied(10_000, longest, length, 5, shares, np.zeros(0, np.int32), np.zeros(0, np.bool_)),
            "drawn at temperature 0.8",
        )

    assert made(n8=0.3125, n16=0.99999, n32=1.0) == (
        "Of 10,000 characters drawn at temperature 0.8, the longest passage that also stands in the corpus has 12: "
        "“to be, ⏎ or not”. Novel: 31.2 % of 8-grams, 99.9 % of 16-grams, 100 % of 32-grams."
    )
    assert made(n8=0.00001).endswith("Novel: 0.001 % of 8-grams.")
    assert made(longest="\n\n", length=2).endswith("has 2: “white space”.")
    assert made(longest="a" * 1000, length=1000).endswith(f"has 1,000: “{'a' * 200}…”.")


def test_nothing_cannot_be_judged() -> None:
    with pytest.raises(ParameterError, match="The sample is empty"):
        held_against("", "abc")
    with pytest.raises(ParameterError, match="characters is 0; draw at least 1"):
        draw(Decoder(load(BUNDLED)), LETTERS, 0)
    with pytest.raises(ParameterError, match="least is 0"):
        held_against("abc", "abc").stretches(0)


def test_a_drawn_sample_is_what_generate_would_write() -> None:
    """However many ids are drawn at once."""
    checkpoint = load(BUNDLED)
    decoder = Decoder(checkpoint)
    pieces = generate(
        decoder,
        checkpoint.tokenizer,
        "",
        max_tokens=701,
        parameters=SamplingParameters(temperature=0.6, seed=4),
    )
    sample = draw(decoder, checkpoint.tokenizer, 701, 0.6, 4)
    assert checkpoint.tokenizer.decode(sample.tolist()) == "".join(piece.text for piece in pieces)
    assert sample.dtype == checkpoint.tokenizer.dtype


def unroll(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "unroll", "copied", str(BUNDLED), *words], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_the_verb_judges_a_drawn_text_and_a_given_one(tmp_path: Path) -> None:
    """Of a corpus the model wrote itself, the same seed copies as much as is drawn; another seed next to nothing."""
    checkpoint = load(BUNDLED)
    ids = draw(Decoder(checkpoint), checkpoint.tokenizer, 3000, seed=7)
    corpus, given = tmp_path / "corpus.txt", tmp_path / "given.txt"
    text = checkpoint.tokenizer.decode(ids.tolist())
    corpus.write_text(text, "utf-8")
    given.write_text("Zounds! " + text[2000:2100], "utf-8")
    told = unroll(str(corpus), "--characters", "500", "--seed", "7")
    assert told.startswith(
        "Of 500 characters drawn at temperature 0.8, the longest passage that also stands in the corpus has 500: “"
    )
    assert told.endswith(
        "…”. Novel: 0 % of 8-grams, 0 % of 16-grams, 0 % of 32-grams.\nThe corpus first has it at character 0.\n"
        "The report of its run looks in what the model learnt alone: --split nanogpt does the same.\n"
    )
    other = json.loads(unroll(str(corpus), "--characters", "200", "--temperature", "0.5", "--seed", "8", "--json"))
    sample = draw(Decoder(checkpoint), checkpoint.tokenizer, 200, 0.5, 8)
    expected = copied(sample, ids, checkpoint.tokenizer).to_json()
    assert other == {"split": "whole", "temperature": 0.5, "seed": 8, **expected}
    assert 4 < other["length"] < 40
    whole, train = (
        json.loads(unroll(str(corpus), "--text", str(given), "--split", split, "--json"))
        for split in ("whole", "60/20/20")
    )
    assert (whole["text"], whole["characters"], whole["begins_in_corpus"]) == (str(given), 108, 2000)
    assert whole["longest"] == text[2000:2100]
    assert train["length"] < 40
