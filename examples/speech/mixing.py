"""Hypotheses ranked by a mix of figures, with weights that make the fewest errors where they are tuned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 10_000
ROUNDS = 300  # of the search for weights at most


@dataclass(frozen=True)
class Lists:
    """The hypotheses of some utterances, a list after the other.

    figures: a row for each hypothesis (k, figures). errors: of words, of each (k,). starts: where each utterance's
    list begins (utterances,). of: the utterance of each (k,).
    """

    figures: Floats
    errors: Floats
    starts: NDArray[np.int64]
    of: NDArray[np.int64]

    @classmethod
    def joined(cls, figures: Sequence[Floats], errors: Sequence[Floats]) -> "Lists":
        """Of the figures and the errors of each utterance's hypotheses, of which each has one at least."""
        lengths = np.array([len(one) for one in errors])
        starts = np.cumsum(lengths) - lengths
        return cls(np.concatenate(figures), np.concatenate(errors), starts, np.repeat(np.arange(len(lengths)), lengths))

    def columns(self, chosen: Sequence[int]) -> "Lists":
        """The same with some of the figures."""
        return Lists(self.figures[:, list(chosen)], self.errors, self.starts, self.of)

    def best(self, weights: Floats) -> Floats:
        """The errors of each utterance's best hypothesis (utterances,). Of equal ones it is the first."""
        scores = self.figures @ weights
        highest = np.flatnonzero(scores == np.maximum.reduceat(scores, self.starts)[self.of])
        first = np.unique(self.of[highest], return_index=True)[1]
        return self.errors[highest[first]]

    def fewest(self) -> Floats:
        """The errors of the hypothesis that is nearest to what was said: no ranking has fewer (utterances,)."""
        return np.minimum.reduceat(self.errors, self.starts)


def tuned(lists: Lists, begin: Floats) -> Floats:
    """Weights (figures,) with the fewest expected errors (Och 2003's risk, smoothed): of hypotheses drawn by the mix.

    begin: where the search begins.
    """
    from scipy.optimize import minimize

    spread = lists.figures.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    figures = lists.figures / scale

    def expected(weights: Floats) -> tuple[float, Floats]:
        scores = figures @ weights
        chances = np.exp(scores - np.maximum.reduceat(scores, lists.starts)[lists.of])
        chances /= np.add.reduceat(chances, lists.starts)[lists.of]
        mean = np.add.reduceat(chances * lists.errors, lists.starts)
        slope = (chances * (lists.errors - mean[lists.of])) @ figures
        return float(mean.sum()), slope

    found = minimize(expected, begin * scale, jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS})
    weights: Floats = found.x / scale
    return weights


class Lead(NamedTuple):
    """By which share errors are fewer than a rival's, and the ends of its 95 % interval."""

    share: float
    low: float
    high: float


def lead(ours: Floats, rival: Floats, seed: int = 1) -> Lead:
    """Over paired bootstrap samples of sentences. ours, rival: errors of each sentence (sentences,)."""
    drawn = np.random.default_rng(seed).integers(0, len(ours), (RESAMPLES, len(ours)))
    fewer, errors = (rival - ours)[drawn].sum(axis=1), rival[drawn].sum(axis=1)
    low, high = np.quantile(fewer / np.maximum(errors, 1), (0.025, 0.975))
    return Lead(float((rival - ours).sum() / max(rival.sum(), 1)), float(low), float(high))
