"""What forecasts of a day are worth: nats, CRPS and how often a return lies below a quantile."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from examples.forecasting.returns import STEP, Floats

QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
REACH, POINTS = 15.0, 1501  # of the integral of a CRPS: volatilities to each side of the return, and points
LEAST = 1e-12  # a probability is no smaller


class Forecasts(ABC):
    """Distributions of the returns of some days (n,), each made before the day.

    volatility: about how far each return will lie from zero, in per cent (n,).
    """

    volatility: Floats

    @abstractmethod
    def cdf(self, percent: Floats) -> Floats:
        """How likely each day's return is at most so much: of k returns a day, (n, k)."""


@dataclass(frozen=True)
class Figures:
    """What forecasts of days (n,) gave.

    nats: −ln of the probability of each return as it is rounded, the difference of the distribution function at the
    edges of its bin. crps: continuous ranked probability score of each day, in per cent (Matheson and Winkler 1976).
    below: the share of days whose return lay below each of `QUANTILES`.
    """

    nats: Floats
    crps: Floats
    below: tuple[float, ...]

    def lead(self, other: "Figures") -> tuple[float, float, float]:
        """By how many nats a day these are better than others of the same days, and the ends of its 95 % interval."""
        better = other.nats - self.nats
        mean, error = float(better.mean()), float(better.std(ddof=1) / np.sqrt(len(better)))
        return mean, mean - 1.96 * error, mean + 1.96 * error


def figures_of(forecasts: Forecasts, percent: Floats) -> Figures:
    """Hold forecasts against the returns that came (n,)."""
    edges = forecasts.cdf(percent[:, None] + np.array([-STEP / 2, 0, STEP / 2]))
    shares = tuple(float((edges[:, 1] < quantile).mean()) for quantile in QUANTILES)
    steps = np.linspace(0, REACH, POINTS) * forecasts.volatility[:, None]
    below_it = _integral(forecasts.cdf(percent[:, None] - steps) ** 2, steps)
    crps = below_it + _integral((1 - forecasts.cdf(percent[:, None] + steps)) ** 2, steps)
    return Figures(-np.log(np.maximum(edges[:, 2] - edges[:, 0], LEAST)), crps, shares)


def _integral(values: Floats, points: Floats) -> Floats:
    """Of values (n, k) at points, by the trapezoidal rule, (n,)."""
    area: Floats = ((values[:, 1:] + values[:, :-1]) / 2 * np.diff(points, axis=1)).sum(axis=1)
    return area
