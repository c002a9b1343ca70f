"""Odd lines of a log found by `unroll score`'s figures, beside character n-grams of scikit-learn on the same split.

Both read the same ordinary lines, and rank the same other lines, of which one in twenty does not belong there. It needs
scikit-learn: pip install scikit-learn.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import unroll
from examples.logs.ssh_log import Log
from model.bulk.score import LineScorer, oddness
from model.language_model import LanguageModel
from tests.benchmarks.figures import Figure

TRAINED, SCORED, ONE_IN = 20_000, 4_000, 20
MINUTES = float(os.environ.get("BENCHMARK_ANOMALY_MINUTES", "1"))
END = "\x03"  # by which n-grams see where a line ends, too
MOST_NEIGHBOURS = 5_000  # of the lines trained on, so that the nearest one is found in seconds


def split(seed: int = 1) -> tuple[list[str], list[str], list[str | None]]:
    """The lines to train on, those to rank, and of each of these what is wrong with it, or None."""
    log = Log(seed)
    train = [log.line() for _ in range(TRAINED)]
    lines: list[str] = []
    wrong: list[str | None] = []
    for _ in range(SCORED):
        kind, line = log.anomaly() if log.chance.random() < 1 / ONE_IN else (None, log.line())
        lines.append(line)
        wrong.append(kind)
    return train, lines, wrong


def by_model(model: LanguageModel, lines: list[str], ends: bool) -> list[float]:
    """How odd each line is, as `unroll score --top` ranks them, with `--ends` or without."""
    scores: list[Any] = []
    with LineScorer(model._decoder, model.checkpoint.tokenizer, model._held_out, ends=ends) as scorer:
        scores += [score for score in scorer.score([lines]) if score is not None]
    ranked = sorted(range(len(lines)), key=lambda at: oddness(scores[at]))
    ranks = [0.0] * len(lines)
    for rank, at in enumerate(ranked):
        ranks[at] = float(rank)
    return ranks


def by_ngrams(train: Sequence[str], lines: Sequence[str]) -> dict[str, list[float]]:
    """How odd each line is by its n-grams of one to four characters: far from the nearest line of training, outside of
    a one-class support vector machine, or with n-grams that are rare there."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import SGDOneClassSVM
    from sklearn.neighbors import NearestNeighbors

    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True)
    known = vectors.fit_transform(train)
    asked = vectors.transform(lines)
    nearest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(known[:MOST_NEIGHBOURS])
    distances, _ = nearest.kneighbors(asked)
    machine = SGDOneClassSVM(nu=0.05, random_state=0).fit(known)
    counter = CountVectorizer(analyzer="char", ngram_range=(4, 4), lowercase=False)
    counts = np.asarray(counter.fit_transform(train).sum(axis=0)).ravel()
    surprise = -np.log((counts + 1) / (counts.sum() + len(counts)))
    unknown = -np.log(1 / (counts.sum() + len(counts)))
    analyse = counter.build_analyzer()
    rare = [
        float(
            np.mean([surprise[counter.vocabulary_[gram]] if gram in counter.vocabulary_ else unknown for gram in grams])
        )
        for grams in map(analyse, lines)
    ]
    return {
        "distance to the nearest line, tf-idf of 1- to 4-grams": distances[:, 0].tolist(),
        "one-class SVM, tf-idf of 1- to 4-grams": (-machine.score_samples(asked)).tolist(),
        "mean rarity of 4-grams": rare,
    }


def measure() -> list[Figure]:
    """Areas under the curves of true against false alarms (AUROC): 1 ranks every odd line first, 0.5 is chance."""
    try:
        from sklearn.metrics import roc_auc_score
    except ModuleNotFoundError:
        sys.exit("This benchmark compares with scikit-learn, which is missing; pip install scikit-learn.")
    train, lines, wrong = split()
    odd = [kind is not None for kind in wrong]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "train.log"
        corpus.write_text("".join(f"{line}\n" for line in train), encoding="utf-8")
        model = unroll.train(corpus, minutes=MINUTES, quiet=True, items=True, out=Path(folder) / "run", seed=1)
        ours, endless = by_model(model, lines, True), by_model(model, lines, False)
    others = by_ngrams([line + END for line in train], [line + END for line in lines])
    what = f"AUROC, {sum(odd):,} odd of {len(lines):,} SSH-like lines, {len(train):,} ordinary ones learnt"
    figures = [Figure(f"unroll score --ends after {MINUTES:g} minutes: {what}", float(roc_auc_score(odd, ours)), "")]
    figures.append(Figure("unroll score without --ends: the same", float(roc_auc_score(odd, endless)), ""))
    figures += [Figure(f"{name}: the same", float(roc_auc_score(odd, values)), "") for name, values in others.items()]
    for kind in sorted(set(filter(None, wrong))):
        chosen = [at for at, one in enumerate(wrong) if one in (None, kind)]
        value = roc_auc_score([wrong[at] is not None for at in chosen], [ours[at] for at in chosen])
        best = max(
            float(roc_auc_score([wrong[at] is not None for at in chosen], [values[at] for at in chosen]))
            for values in others.values()
        )
        figures.append(Figure(f"of them {kind}: unroll score --ends", float(value), ""))
        figures.append(Figure(f"of them {kind}: best n-grams", best, ""))
    return figures
