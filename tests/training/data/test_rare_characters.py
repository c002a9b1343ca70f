"""Characters too rare to be learnt are spelt in bytes where that clearly pays, and nowhere else."""

from pathlib import Path

from model.text.tokenizer import CharacterCounts
from training.data.corpus import Corpus
from training.data.prepared_corpus import IDS, prepare
from training.data.rare_characters import RareCharacters, rare_characters
from training.data.sources import TextSource

CODE = "def f(x): return x\n" * 200_000 + "".join(map(chr, range(0x4E00, 0x4E00 + 3_000)))  # 3.8 M and 3,000, each once
PROSE = "".join(
    chr(0x4E00 + rank) * (6_000 // (rank + 1) + 1) for rank in range(3_000)
)  # as often as their rank has it


def counted(text: str) -> CharacterCounts:
    counts = CharacterCounts()
    counts.update(text)
    return counts


def test_it_is_planned_where_it_clearly_pays() -> None:
    found = rare_characters(counted(CODE))
    assert (found.min_count, found.planned, found.different) == (10, True, 3_013)
    assert found.share == 3_000 / len(CODE)
    assert found.proposed is None


def test_it_is_proposed_where_it_costs_more_and_never_done_for_few_characters() -> None:
    shorter = CODE[3_000_000:]
    assert 0.001 < rare_characters(counted(shorter), 2).share < 0.01
    assert rare_characters(counted(shorter)) == RareCharacters(1, False, 3_013, 0.0, 50)
    few = CODE[:-2_100]
    assert rare_characters(counted(few)) == RareCharacters(1, False, 913, 0.0, None)
    poems = "".join(chr(0x4E00 + at) * (12 if at < 2_000 else 40 if at < 3_000 else 4_000) for at in range(4_000))
    assert rare_characters(counted(poems)) == RareCharacters(1, False, 4_000, 0.0, 20)
    prose = rare_characters(counted(PROSE))
    assert (prose.min_count, prose.proposed) == (1, None)


def test_what_was_chosen_is_done() -> None:
    assert rare_characters(counted(CODE), 1) == RareCharacters(1, False, 3_013, 0.0, None)
    assert rare_characters(counted("aab"), 2) == RareCharacters(2, False, 2, 1 / 3, None)


def test_characters_that_have_ids_already_are_not_counted() -> None:
    known = "".join(map(chr, range(0x4E00, 0x4E00 + 2_500)))
    assert rare_characters(counted(CODE), known=known).min_count == 1


def test_a_planned_vocabulary_is_prepared_once_and_found_again(tmp_path: Path) -> None:
    corpus = Corpus([TextSource("code", CODE)])
    made, found = (prepare(corpus, tmp_path, min_count=None) for _ in range(2))
    assert (made.reused, found.reused) == (False, True)
    assert made.rare == found.rare == rare_characters(counted(CODE))
    assert len(made.tokenizer.characters) == 13
    assert made.tokenizer.decode(found.ids[-9_000:].tolist()) == CODE[-3_000:]
    chosen = prepare(corpus, tmp_path, min_count=10)  # as a run is resumed
    assert (chosen.reused, chosen.tokenizer.characters) == (True, made.tokenizer.characters)
    assert chosen.path == made.path == found.path
    (made.path / IDS).write_bytes(b"damaged")
    assert [prepare(corpus, tmp_path, min_count=None).reused for _ in range(2)] == [False, True]
    whole = prepare(corpus, tmp_path, min_count=1)
    assert (whole.reused, len(whole.tokenizer.characters), whole.rare.planned) == (False, 3_013, False)
