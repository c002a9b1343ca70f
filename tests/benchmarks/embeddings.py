"""Texts told apart by a linear probe of their vectors, beside character n-grams of scikit-learn on the same split.

The model is the one that is bundled, which has read English plays alone. It needs: pip install scikit-learn.
"""

import os
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import unroll
from model.language_model import LanguageModel
from tests.benchmarks.figures import Figure

CORPORA = Path(os.environ.get("BENCHMARK_CORPORA", Path(__file__).parents[3] / "shared" / "corpora"))
TRAINED, TESTED = 400, 400  # pieces of each kind
LENGTH = 50  # characters of a piece
WAYS: dict[str, dict[str, Any]] = {
    "mean of all layers": {"pooling": "mean", "layer": None},
    "mean of the last layer": {"pooling": "mean"},
    "last of all layers": {"layer": None},
    "last of the last layer, as unless asked": {},
}


def pieces(text: str, count: int, seed: int = 1, length: int = LENGTH) -> list[str]:
    """Pieces of a text in random order, none of which overlap; white space is one space, and case is none."""
    text = re.sub(r"\s+", " ", text).lower()
    starts = list(range(0, len(text) - length, length))
    return [text[start : start + length] for start in random.Random(seed).sample(starts, count)]


def languages() -> dict[str, str]:
    """English and French sentences, and Genesis in French of 1910, in Latin-1."""
    pairs = [line.split("\t") for line in (CORPORA / "fra-eng.txt").read_text("utf-8").splitlines()[60_000:90_000]]
    return {
        "English": " ".join(pair[0] for pair in pairs),
        "French": " ".join(pair[1] for pair in pairs),
        "Genesis": (CORPORA / "genesis-french.latin1.txt").read_text("latin-1"),
    }


def authors() -> dict[str, str]:
    """Shakespeare, Tolstoy in translation, and everyday sentences, all English."""
    return {
        "Shakespeare": (CORPORA / "tinyshakespeare.txt").read_text("utf-8"),
        "Tolstoy": (CORPORA / "war-and-peace.txt").read_text("utf-8"),
        "everyday": languages()["English"],
    }


def split(texts: dict[str, str], trained: int, tested: int) -> tuple[list[str], list[str], list[str], list[str]]:
    """Pieces to train on and their kinds, and pieces to test on and theirs."""
    found = {kind: pieces(text, trained + tested) for kind, text in texts.items()}
    return (
        [piece for own in found.values() for piece in own[:trained]],
        [kind for kind in found for _ in range(trained)],
        [piece for own in found.values() for piece in own[trained:]],
        [kind for kind in found for _ in range(tested)],
    )


def told_apart(texts: dict[str, str], what: str, model: LanguageModel) -> Iterator[Figure]:
    """How many pieces a logistic regression finds the kind of, from vectors and from n-grams."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, kinds, test, answers = split(texts, TRAINED, TESTED)
    about = f"{what}, {len(test):,} pieces of {LENGTH} characters, {len(train):,} to learn from"
    for name, options in WAYS.items():
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        probe.fit(model.embed(train, **options), kinds)
        share = float(probe.score(model.embed(test, **options), answers))
        yield Figure(f"{about}: {name}", 100 * share, "%")
    for most in (1, 3, 5):
        grams = TfidfVectorizer(analyzer="char", ngram_range=(1, most), sublinear_tf=True)
        probe = make_pipeline(grams, LogisticRegression(C=10, max_iter=1000))
        probe.fit(train, kinds)
        share = float(probe.score(test, answers))
        yield Figure(f"{about}: character n-grams up to {most}", 100 * share, "%")


def measure() -> list[Figure]:
    """Shares of pieces whose kind is found; a third is chance."""
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("This benchmark compares with scikit-learn, which is missing; pip install scikit-learn.")
    model = unroll.load()
    return [*told_apart(languages(), "languages", model), *told_apart(authors(), "authors", model)]
