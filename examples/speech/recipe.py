"""The recipe: lattices of a recogniser, what each model says of their hypotheses, and the errors of each mix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from examples.running import RecipeError
from examples.speech import trigram
from examples.speech.book import Sentence, read, to_read_aloud, words_of
from examples.speech.character_model import Model, Size, log_chances, trained
from examples.speech.lattice import Hypothesis
from examples.speech.mixing import Floats, Lists, tuned
from examples.speech.recognition import PENALTY, VOICES, WEIGHT, Heard, Utterance, dictionary, hear, own_trigram

OWN, ADAPTED = "pocketsphinx", "adapted trigram in the decoder"
ADAPTED_FILE = "adapted.arpa"
ACOUSTIC, SEARCHED, TRIGRAM, CHARACTERS, WORDS = range(5)
"""Figures of a hypothesis: ln p by its sound, by the language of the search, the adapted trigram, the character model,
and how many words it has."""
MIXES: dict[str, tuple[str, tuple[int, ...]]] = {
    "its lattices, adapted trigram": (OWN, (ACOUSTIC, SEARCHED, TRIGRAM, WORDS)),
    "its lattices, Unroll": (OWN, (ACOUSTIC, SEARCHED, CHARACTERS, WORDS)),
    "its lattices, adapted trigram and Unroll": (OWN, (ACOUSTIC, SEARCHED, TRIGRAM, CHARACTERS, WORDS)),
    "those lattices, weights tuned": (ADAPTED, (ACOUSTIC, SEARCHED, TRIGRAM, WORDS)),
    "those lattices, adapted trigram and Unroll": (ADAPTED, (ACOUSTIC, SEARCHED, TRIGRAM, CHARACTERS, WORDS)),
}
"""Of which lattices, and by which figures."""


class Plan(NamedTuple):
    """How much is read aloud and learnt.

    test, validation: sentences. hypotheses: of an utterance at most. train: sentences that are learnt from, all for
    None. size: of the character model. decoders: the language models that pocketsphinx searches by.
    """

    test: int = 300
    validation: int = 30
    voices: tuple[str, ...] = VOICES
    hypotheses: int = 200
    train: int | None = None
    size: Size = Size()
    decoders: tuple[str, ...] = (OWN, ADAPTED)


QUICK = Plan(2, 2, VOICES[1:2], 20, 1_000, Size(1, 32, 1))


@dataclass(frozen=True)
class Outcome:
    """What came out.

    words: spoken in each test sentence. errors: of each method (sentences, voices). oracle: the fewest in the lists.
    weights: of each mix, by the figures in `MIXES`. share: of the book in the adapted trigram.
    """

    plan: Plan
    words: Floats
    errors: dict[str, Floats]
    oracle: dict[str, Floats]
    weights: dict[str, Floats]
    share: float


def run(file: Path, folder: Path, plan: Plan, seed: int, processes: int, told: Callable[[str], None]) -> Outcome:
    """Learn, listen, tune and test. file: the book. folder: of all that is written. told: is given progress."""
    book = read(file)
    learnt = book.train[: plan.train]
    validation = to_read_aloud(book.validation, dictionary(), plan.validation)
    test = to_read_aloud(book.test, dictionary(), plan.test)
    if not validation or not test:
        raise RecipeError(
            f"{file} has too few English sentences: where they are held out, none has 5 to 20 words that the "
            "recogniser knows. Name a longer text."
        )
    if len(test) < plan.test:
        told(f"{file} has {len(test)} sentences to test on; {plan.test} were asked for.")
    folder.mkdir(parents=True, exist_ok=True)
    adapted, share = adapted_trigram(learnt, to_read_aloud(book.validation, dictionary(), len(book.validation)), folder)
    utterances = [Utterance(one.text, voice) for one in (*validation, *test) for voice in plan.voices]
    decoders = {OWN: own_trigram(), ADAPTED: folder / ADAPTED_FILE}
    heard = {
        name: hear(utterances, decoders[name], folder / "heard", plan.hypotheses, processes, told)
        for name in plan.decoders
    }
    told("The character model is trained, or taken from an earlier run.")
    model = trained(learnt, folder / "characters", plan.size, seed)
    border = len(validation) * len(plan.voices)
    tuning = {name: lists_of(validation, every[:border], adapted, model) for name, every in heard.items()}
    testing = {name: lists_of(test, every[border:], adapted, model) for name, every in heard.items()}
    spoken = [one.words for one in test for _ in plan.voices]
    answers = {
        name: np.array(
            [errors_in(words_of(one.answer), said) for one, said in zip(every[border:], spoken, strict=True)]
        )
        for name, every in heard.items()
    }
    return _outcome(plan, [len(one.words) for one in test], answers, tuning, testing, share)


def adapted_trigram(
    learnt: Sequence[Sentence], validation: Sequence[Sentence], folder: Path
) -> tuple[trigram.Language, float]:
    """The recogniser's trigram mixed with one of the book, and the book's share, which validation chooses.

    A file of it for the decoder is written; that has the mix for n-grams of the book alone, and backs off elsewhere.
    """
    general = trigram.recogniser_s(own_trigram())
    of_book = trigram.learnt([one.words for one in learnt], dictionary())
    of_book.write(folder / "book.arpa")
    language = trigram.recogniser_s(folder / "book.arpa")
    share = trigram.best_share(language, general, [one.words for one in validation])
    of_book.adapted(general, share).write(folder / ADAPTED_FILE)
    return trigram.interpolated(language, general, share), share


def _outcome(
    plan: Plan,
    words: Sequence[int],
    answers: dict[str, Floats],
    tuning: dict[str, Lists],
    testing: dict[str, Lists],
    share: float,
) -> Outcome:
    shape = (len(words), len(plan.voices))
    errors, weights = dict(answers), {}
    for name, (lattices, figures) in MIXES.items():
        if lattices in plan.decoders:
            weights[name] = tuned(tuning[lattices].columns(figures), beginning(figures))
            errors[name] = testing[lattices].columns(figures).best(weights[name])
    return Outcome(
        plan,
        np.array(words, np.float64),
        {name: found.reshape(shape) for name, found in errors.items()},
        {name: found.fewest().reshape(shape) for name, found in testing.items()},
        weights,
        share,
    )


def beginning(figures: Sequence[int]) -> Floats:
    """Where the search for weights begins: as the recogniser weighs them, the language shared out among its models."""
    languages = [figure for figure in figures if figure in (SEARCHED, TRIGRAM, CHARACTERS)]
    begin = {ACOUSTIC: 1.0, WORDS: PENALTY, **{figure: WEIGHT / len(languages) for figure in languages}}
    return np.array([begin[figure] for figure in figures]) / WEIGHT


def lists_of(sentences: Sequence[Sentence], heard: Sequence[Heard], language: trigram.Language, model: Model) -> Lists:
    """The figures and errors of all hypotheses. heard: of each sentence by each voice."""
    voices = len(heard) // len(sentences)
    lists = [one.hypotheses or [Hypothesis((), 0.0, 0.0)] for one in heard]
    figures, errors = [], []
    for number, found in enumerate(lists):
        said = sentences[number // voices].words
        of_words = [trigram.of_sentence(language, one.words) for one in found]
        rows = zip(found, of_words, log_chances(model, [one.words for one in found]), strict=True)
        figures.append(np.array([(one.acoustic, one.language, ln, by, len(one.words)) for one, ln, by in rows]))
        errors.append(np.array([errors_in(words_of(" ".join(one.words)), said) for one in found], np.float64))
    return Lists.joined(figures, errors)


def errors_in(words: Sequence[str], said: Sequence[str]) -> int:
    """Words that are wrong, lack or are too many, the fewest that explain the difference."""
    from rapidfuzz.distance import Levenshtein

    return int(Levenshtein.distance(words, said))
