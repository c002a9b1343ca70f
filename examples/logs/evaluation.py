"""How well odd lines are ranked before usual ones: AUROC, precision at 100, and whether a lead is more than chance."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from examples.logs.sets import Line

FIRST = 100  # lines that a person may look at
DRAWS = 400  # bootstrap samples

Ranking = NDArray[np.float64]
"""A number for each line; the larger, the odder."""


class Result(NamedTuple):
    """A method on a log. setting: what validation chose. auroc, precision: of the lines to rank."""

    setting: str
    validation: float
    auroc: float
    precision: float
    ranking: Ranking


def is_odd(lines: Sequence[Line]) -> NDArray[np.bool_]:
    """Which lines are odd."""
    return np.array([line.kind is not None for line in lines])


def auroc(odd: NDArray[np.bool_], ranking: Ranking) -> float:
    """How often an odd line ranks before a usual one; ties count half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(odd, ranking))


def precision_at(odd: NDArray[np.bool_], ranking: Ranking, count: int = FIRST) -> float:
    """The share of odd lines among the first; of equally odd lines, the earlier comes first."""
    return float(odd[np.argsort(-ranking, kind="stable")[:count]].mean())


def best_on_validation(
    tuned: NDArray[np.bool_], odd: NDArray[np.bool_], settings: Mapping[str, tuple[Ranking, Ranking]]
) -> Result:
    """The setting with the highest AUROC on the lines to tune on. settings: rankings of these and of the test lines."""
    found = [
        Result(name, auroc(tuned, validate), auroc(odd, test), precision_at(odd, test), test)
        for name, (validate, test) in settings.items()
    ]
    return max(found, key=lambda result: result.validation)


def lead(odd: NDArray[np.bool_], ours: Ranking, theirs: Ranking) -> tuple[float, float]:
    """The middle 95 % of how much higher the AUROC is, over paired bootstrap samples of the usual and the odd lines."""
    chance = np.random.default_rng(1)
    usual, strange = np.flatnonzero(~odd), np.flatnonzero(odd)
    differences = []
    for _ in range(DRAWS):
        drawn = np.concatenate([chance.choice(usual, len(usual)), chance.choice(strange, len(strange))])
        differences.append(auroc(odd[drawn], ours[drawn]) - auroc(odd[drawn], theirs[drawn]))
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def found_at(odd: NDArray[np.bool_], ranking: Ranking, false_alarms: float) -> float:
    """The share of odd lines that rank before all usual ones but this share of them."""
    usual = np.sort(ranking[~odd])[::-1]
    return float((ranking[odd] > usual[int(false_alarms * len(usual))]).mean())


def threshold(usual: Ranking, false_alarms: float) -> float:
    """The least value that this share of usual lines, at most, exceed."""
    return float(np.sort(usual)[::-1][int(false_alarms * len(usual))])
