"""The recipe: pieces and a network learnt from the pairs, what it translates and its rivals do, with the scores."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

import unroll
from examples.running import RecipeError
from examples.translation.corpus import Corpus, Sentence
from examples.translation.nearest import KINDS, copied, nearest
from examples.translation.phrases import SETTINGS, PhraseModel
from examples.translation.pieces import Pieces
from examples.translation.scores import Scores, scores_of
from examples.translation.translating import AGREED, BEAMS, Translator

Setting = TypeVar("Setting")
Translate = Callable[[Sequence[Sentence], Setting], list[str]]
SPARSE = 4  # every so many sentences of validation tune the phrase table
PIECES_FILE = "pieces.model"


class Size(NamedTuple):
    """How much is learnt, by options of `unroll train`. pieces: how many there are."""

    pieces: int = 1_350
    hidden: int = 448
    embedding: int = 128
    epochs: float = 14
    batch_size: int = 32


QUICK = Size(pieces=120, hidden=64, embedding=32, epochs=6, batch_size=4)


class Outcome(NamedTuple):
    """What a method came to on the test. setting: chosen on validation, "" where there is nothing to choose."""

    name: str
    setting: str
    scores: Scores
    translations: list[str]


def trained(corpus: Corpus, folder: Path, size: Size, seed: int) -> Translator:
    """A model of the pairs, with the command that the README shows."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = corpus.pairs
    pieces = Pieces.learnt((text for pair in pairs for text in pair), size.pieces, folder / PIECES_FILE)
    items = [pieces.item(*pair) for pair in pairs]
    np.random.default_rng(seed).shuffle(items)
    file = folder / "pairs.txt"
    file.write_text("".join(f"{item}\n" for item in items), encoding="utf-8")
    model = unroll.train(
        file,
        out=folder / "run",
        overwrite=True,
        items=True,
        learn_after=r"\t",
        epochs=size.epochs,
        layers=2,
        hidden=size.hidden,
        embedding=size.embedding,
        skip=False,
        batch_size=size.batch_size,
        dropout=0.25,
        learning_rate=0.003,
        split="98/1/1",
        seed=seed,
    )
    return Translator(model, pieces)


def loaded(folder: Path) -> Translator:
    """What `trained` left in a folder. Raises RecipeError where it left nothing."""
    if not (folder / PIECES_FILE).is_file():
        raise RecipeError(f"There is no model in {folder} yet; leave out --evaluate, or name its folder with --out.")
    return Translator(unroll.load(folder / "run"), Pieces((folder / PIECES_FILE).read_bytes()))


def by_unroll(translator: Translator, corpus: Corpus, quick: bool = False) -> Iterator[Outcome]:
    """What the model translates, in three ways. quick: a setting of each alone."""
    yield _outcome("**Unroll**, greedy", "", translator.greedy(corpus.test), corpus)
    beams, agreed = (BEAMS[:1], AGREED[:1]) if quick else (BEAMS, AGREED)
    yield _tuned("**Unroll**, beam search", translator.by_beams, beams, corpus)
    yield _tuned("**Unroll**, least risk", translator.by_agreement, agreed, corpus)


def by_rivals(corpus: Corpus, quick: bool = False) -> Iterator[Outcome]:
    """What the rivals translate, learnt from the same pairs and tuned on the same validation."""
    yield _outcome("the source, copied", "", copied(corpus.test), corpus)
    kinds = list(KINDS)[:1] if quick else list(KINDS)
    yield _tuned("nearest source, by tf-idf", lambda asked, kind: nearest(corpus.train, asked, kind), kinds, corpus)
    phrases = PhraseModel(corpus.pairs)
    some = corpus._replace(validation=corpus.validation[::SPARSE])  # NLTK's decoder is slow
    yield _tuned("phrase table and bigrams", phrases.translate, SETTINGS[:1] if quick else SETTINGS, some)


def _tuned(name: str, translate: Translate[Setting], settings: Sequence[Setting], corpus: Corpus) -> Outcome:
    """The test by the setting that is best on validation, in BLEU and chrF together."""

    def on_validation(setting: Setting) -> float:
        return scores_of(corpus.validation, translate(corpus.validation, setting), 0).sum

    best = settings[0] if len(settings) == 1 else max(settings, key=on_validation)
    return _outcome(name, str(best), translate(corpus.test, best), corpus)


def _outcome(name: str, setting: str, translations: list[str], corpus: Corpus) -> Outcome:
    return Outcome(name, setting, scores_of(corpus.test, translations), translations)
