"""The recipe for translation: its split, its rivals and its choices on pairs made here; in miniature all of it."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from examples.running import RecipeError
from examples.translation.__main__ import program
from examples.translation.corpus import FILE, MissingCorpus, Sentence, is_known, part_of, read
from examples.translation.nearest import KINDS, copied, nearest
from examples.translation.phrases import SETTINGS, Bigrams, PhraseModel, alignments, text_of, words_of
from examples.translation.pieces import Pieces
from examples.translation.recipe import Size, loaded
from examples.translation.scores import scores_of
from examples.translation.table import HEAD
from examples.translation.translating import most_agreed

PAGE = (Path(__file__).parents[2] / "examples" / "translation" / "README.md").read_text("utf-8")
SUBJECTS = {"I see": ["Je vois", "J'aperçois"], "We want": ["Nous voulons"], "You have": ["Tu as", "Vous avez"]}
NUMBERS = {"two": "deux", "three": "trois", "ten": "dix", "some": "des", "these": "ces", "my": "mes"}
COLOURS = {"red": "rouges", "black": "noirs", "green": "verts", "white": "blancs"}
THINGS = {"cats": "chats", "books": "livres", "cakes": "gâteaux", "dogs": "chiens", "hats": "chapeaux"}
ENDS = {".": ".", "!": " !", " today.": " aujourd'hui."}


def made_pairs() -> list[tuple[str, str]]:
    """Sentences of a small language, in which adjectives change places, with all their translations."""
    found = []
    for subject, number, colour, thing, end in itertools.product(SUBJECTS, NUMBERS, COLOURS, THINGS, ENDS):
        for begin in SUBJECTS[subject]:
            french = f"{begin} {NUMBERS[number]} {THINGS[thing]} {COLOURS[colour]}{ENDS[end]}"
            found.append((f"{subject} {number} {colour} {thing}{end}", french))
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / FILE
    path.write_text("".join(f"{source}\t{target}\tCC-BY\n" for source, target in made_pairs()), encoding="utf-8")
    return path


def test_no_source_is_on_two_sides_and_all_its_references_are_with_it(file: Path) -> None:
    corpus = read(file)
    parts = [{sentence.source for sentence in part} for part in corpus]
    assert len(set.union(*parts)) == sum(map(len, parts)) == len({source for source, _ in made_pairs()})
    assert 0.9 < len(parts[0]) / sum(map(len, parts)) < 1
    for sentence in (*corpus.validation, *corpus.test):
        assert sentence.references == tuple(target for source, target in made_pairs() if source == sentence.source)
    assert sorted(corpus.pairs) == sorted(pair for pair in made_pairs() if part_of(pair[0]) == "train")
    assert part_of("HE RAN.") == part_of("He ran.")
    assert not is_known(file)


def test_apostrophes_spaces_and_accents_are_of_one_kind(tmp_path: Path, file: Path) -> None:
    with file.open("a", encoding="utf-8") as more:
        more.write("It’s  late.\tC’est tard\u202f!\nIt's late.\tIl est de\u0301ja\u0300 tard.\nno French\n")
    [sentence] = [one for part in read(file) for one in part if one.source == "It's late."]
    assert sentence.references == ("C'est tard !", "Il est déjà tard.")
    few = tmp_path / "few.txt"
    few.write_text("Go.\tVa !\n", encoding="utf-8")
    with pytest.raises(MissingCorpus, match="has 1 sentences, too few"):
        read(few)


@pytest.mark.parametrize("text", ["J'ai vu « l'ami » de Tom, hier !", "Qu'est-ce qu'il y a ?", "3,5 % — non…", "R&B"])
def test_words_are_put_together_as_they_were(text: str) -> None:
    assert text_of(words_of(text)) == text
    assert "" not in words_of(text)


def test_words_are_aligned_where_they_occur_together() -> None:
    pairs = [(words_of(source), words_of(target)) for source, target in made_pairs() if source.startswith("We")]
    for (source, target), places in zip(pairs, alignments(pairs), strict=True):
        together = {target[at]: source[place] for at, place in enumerate(places)}
        for english, french in (*NUMBERS.items(), *COLOURS.items(), *THINGS.items()):
            if f"▁{french}" in together:
                assert together[f"▁{french}"] == f"▁{english}"


def test_the_probabilities_of_bigrams_sum_to_one() -> None:
    bigrams = Bigrams([words_of(target) for _, target in made_pairs()])
    known = {word for _, target in made_pairs() for word in words_of(target)}
    for before in ("▁Je", "▁chats", "never seen"):
        total = sum(np.exp(bigrams.probability((before, word))) for word in (*known, "", "unseen"))
        assert total == pytest.approx(1)


def test_the_readme_has_a_row_of_each_method() -> None:
    rows = PAGE.split(HEAD)[1].split("\n\n")[0].strip().splitlines()
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        "the source, copied",
        "nearest source, by tf-idf",
        "phrase table and bigrams",
        "**Unroll**, greedy",
        "**Unroll**, beam search",
        "**Unroll**, least risk",
    ]


def test_the_readme_has_the_sizes_of_the_recipe() -> None:
    for name, value in Size()._asdict().items():
        option = f"--{name.replace('_', '-')} {value:g} "
        assert option in PAGE or name == "pieces", option


def test_what_lacks_is_said(tmp_path: Path) -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(program, ["--pairs", str(tmp_path / FILE)])
    assert done.exit_code == 2
    assert "manythings.org/anki" in done.output
    assert str(tmp_path / FILE) in done.output
    with pytest.raises(RecipeError, match=r"no model in .*; leave out --evaluate"):
        loaded(tmp_path)


@pytest.mark.examples
def test_pieces_spell_any_text_and_a_question_is_turned_round(tmp_path: Path) -> None:
    pieces = Pieces.learnt((text for pair in made_pairs() for text in pair), 150, tmp_path / "pieces.model")
    for source, target in made_pairs()[::97]:
        assert pieces.read(pieces.written(target)) == target
        question, answer = pieces.item(source, target).split("\t")
        assert pieces.read(question[::-1]) == source
        assert pieces.read(answer) == target
        assert len(pieces.written(target)) < len(target) / 2
    again = Pieces((tmp_path / "pieces.model").read_bytes())
    assert again.written("We see cats!") == pieces.written("We see cats!")


@pytest.mark.examples
def test_scores_count_every_reference() -> None:
    sentences = [Sentence("Go on, my friend.", ("Continue, mon ami.", "Va, mon cher ami.")), Sentence("No.", ("Non.",))]
    whole = scores_of(sentences, ["Va, mon cher ami.", "Non."], 0)
    assert [whole.bleu, whole.chrf] == pytest.approx([100, 100])
    half = scores_of(sentences, ["Va, mon ami.", "Oui."], 50)
    assert 0 < half.bleu < 80
    assert 0 < half.bleu_within < 100


@pytest.mark.examples
def test_the_text_that_most_agree_with_is_taken() -> None:
    texts = ["Elle dort.", "Il vit un chat.", "Il a vu un chat."]
    draws = ["Il a vu le chat.", "Il a vu ce chat.", "Il avait vu un chat.", "Elle dort."]
    for bleu in (0.0, 0.5, 1.0):
        assert most_agreed(texts, draws, bleu) == "Il a vu un chat."
        assert most_agreed(texts, ["Elle dort."], bleu) == "Elle dort."
    assert most_agreed(["Oui.", "Si."], ["Non !"], 0.5) == "Oui."


@pytest.mark.examples
def test_rivals_translate_what_they_have_learnt(file: Path) -> None:
    corpus = read(file)
    assert copied(corpus.test) == [sentence.source for sentence in corpus.test]
    for kind in KINDS:
        assert nearest(corpus.train, corpus.train[:20], kind) == [one.references[0] for one in corpus.train[:20]]
    phrases = PhraseModel(corpus.pairs)
    asked = [*corpus.test, Sentence("We want two red zebras.", ("Nous voulons deux zebras rouges.",))]
    found = phrases.translate(asked, SETTINGS[0])
    right = sum(text in sentence.references for text, sentence in zip(found, asked, strict=True))
    assert right / len(asked) > 0.8
    assert "zebras" in found[-1]


@pytest.mark.examples
@pytest.mark.timeout(300)  # seconds of a core, which a busy machine may have to share
def test_in_miniature(tmp_path: Path, file: Path) -> None:
    """The small language, from its pairs to the table; then the table again, of the model that is there."""
    runner = CliRunner(env={"COLUMNS": "200"})
    words = ["--pairs", str(file), "--out", str(tmp_path / "out"), "--quick"]
    found = runner.invoke(program, words, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) ± [\d.]+ \| ([\d.]+) ±", found.stdout, re.M)
    bleu = {name: float(score) for name, score, _ in rows}
    assert list(bleu) == re.findall(r"^\| ([^|]+) \| [\d.]+ ±", PAGE, re.M)
    assert bleu["the source, copied"] < 10
    assert bleu["**Unroll**, greedy"] > 30
    assert "is not the file that the README's figures are from" in found.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["quick"]  # a whole run is not touched
    again = runner.invoke(program, [*words, "--evaluate"], catch_exceptions=False)
    assert again.stdout.split(HEAD)[1] == found.stdout.split(HEAD)[1]
