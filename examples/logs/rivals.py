"""What else ranks lines by how odd they are: a character 5-gram, and an isolation forest on tf-idf."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.logs.surprise import Scores, of_characters

ORDER = 5
DISCOUNTS = (0.5, 0.75, 0.9)
START, END = "\x02", "\n"
FORESTS = [
    (analyzer, longest, samples) for analyzer in ("word", "char") for longest in (1, 2, 3) for samples in (256, 1.0)
]
"""Analyser, longest n-gram and samples of a tree, from which validation chooses."""


class CharacterGrams:
    """A character 5-gram with interpolated Kneser-Ney smoothing (Chen and Goodman 1999, section 2.8), end included."""

    def __init__(self, lines: Sequence[str], discount: float, order: int = ORDER) -> None:
        self._order, self._discount = order, discount
        self._counts: list[dict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(order)]
        for line in lines:
            text = START * (order - 1) + line + END
            for at in range(order - 1, len(text)):
                self._counts[-1][text[at - order + 1 : at]][text[at]] += 1
        for longer, shorter in zip(self._counts[:0:-1], self._counts[-2::-1], strict=True):
            for context, counts in longer.items():
                shorter[context[1:]].update(counts.keys())
        self._uniform = 1 / (len({character for line in lines for character in line}) + 2)  # the end; all unseen ones
        self._known: dict[tuple[str, str], float] = {}

    def probability(self, context: str, character: str) -> float:
        """Of a character after a context of order - 1 characters."""
        known = self._known.get((context, character))
        if known is not None:
            return known
        probability = self._uniform
        for order in range(self._order):
            counts = self._counts[order].get(context[self._order - 1 - order :])
            if not counts:
                break
            total = counts.total()
            backed_off = self._discount * len(counts) / total * probability
            probability = max(counts[character] - self._discount, 0) / total + backed_off
        self._known[context, character] = probability
        return probability

    def scores(self, lines: Sequence[str]) -> Scores:
        """How much each line surprises."""
        return of_characters([self._bits(line) for line in lines])

    def _bits(self, line: str) -> NDArray[np.float64]:
        text, before = START * (self._order - 1) + line + END, self._order - 1
        return -np.log2([self.probability(text[at - before : at], text[at]) for at in range(before, len(text))])


def forest(
    train: Sequence[str], analyzer: str, longest: int, samples: int | float, *ranked: Sequence[str]
) -> list[NDArray[np.float64]]:
    """How odd the lines of each list are to an isolation forest (Liu et al. 2008) on tf-idf of n-grams."""
    from sklearn.ensemble import IsolationForest
    from sklearn.feature_extraction.text import TfidfVectorizer

    options: dict[str, Any] = {"token_pattern": r"\S+"} if analyzer == "word" else {}
    vectors = TfidfVectorizer(analyzer=analyzer, ngram_range=(1, longest), lowercase=False, **options)
    learnt = vectors.fit_transform(train)
    chosen = min(samples, len(train)) if isinstance(samples, int) else samples
    trees = IsolationForest(n_estimators=200, max_samples=chosen, random_state=1).fit(learnt)
    return [-trees.score_samples(vectors.transform(lines)) for lines in ranked]
