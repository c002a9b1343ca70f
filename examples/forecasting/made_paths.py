"""Paths of returns drawn from volatility models, whose parameters are drawn as a fit leaves them uncertain."""

from math import lgamma

import numpy as np

from examples.forecasting.returns import Floats
from examples.forecasting.rivals import fitted

BURN_IN = 350  # days until a path has forgotten how it began
QUIETEST, WILDEST = 0.05, 25.0  # volatility of a day, in per cent
MEAN_SIZE = np.sqrt(2 / np.pi)  # of a normal shock
PERSISTENCE = 0.9985  # a path keeps at most so much of its volatility from one day to the next

Random = np.random.Generator


def drawn_parameters(random: Random, returns: Floats, model: str, count: int) -> Floats:
    """Parameters of a model, (count, k), from the normal distribution about those fitted to a series (n,).

    The columns are mean, ω, α, γ, β, degrees of freedom and skewness, as `arch` orders them.
    """
    _, result = fitted(returns, model, len(returns))
    best = result.params.to_numpy(np.float64)
    values, vectors = np.linalg.eigh(np.asarray(result.param_cov, np.float64))
    spread = vectors * np.sqrt(np.maximum(values, 0))
    found = np.zeros((0, len(best)))
    while len(found) < count:
        drawn = best + random.standard_normal((4 * count, len(best))) @ spread.T
        found = np.concatenate([found, drawn[_sound(drawn, model)]])
        best = 0.9 * best + 0.1 * _centre(best)  # where the fit lies on a border, few draws are inside
    return found[:count]


def _centre(parameters: Floats) -> Floats:
    """Parameters well inside of what a model may have, with the mean and ω of others."""
    return np.array([*parameters[:2], 0.05, 0.05, 0.85, 8.0, 0.0])


def _sound(parameters: Floats, model: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which parameters (n, k) make paths that neither die nor explode."""
    _, omega, alpha, gamma, beta, degrees, skewness = parameters.T
    sound = (degrees > 2.5) & (degrees < 60) & (np.abs(skewness) < 0.8) & (beta > 0) & (beta < PERSISTENCE)
    if model.startswith("EGARCH"):
        return np.asarray(sound)
    size = 0.8 if model.startswith("TARCH") else 1.0
    kept = size * (alpha + gamma / 2) + beta
    return np.asarray(sound & (omega > 0) & (alpha >= 0) & (alpha + gamma >= 0) & (kept < PERSISTENCE))


def made_paths(random: Random, model: str, parameters: Floats, paths: int, days: int) -> Floats:
    """Returns (paths, days), each path with parameters of one of the rows (n, 7), rounded to 0.01."""
    mean, omega, alpha, gamma, beta, degrees, skewness = parameters[random.integers(len(parameters), size=paths)].T
    shocks = SkewedShocks(degrees, skewness)
    returns = np.empty((paths, BURN_IN + days))
    state = omega / np.maximum(1 - beta - 0.9 * (alpha + gamma / 2), 0.003)
    if model.startswith("EGARCH"):
        state = omega / (1 - beta)
    for day in range(returns.shape[1]):
        volatility = np.clip(_volatility(state, model), QUIETEST, WILDEST)
        shock = shocks.draw(random)
        error = volatility * shock
        returns[:, day] = mean + error
        if model.startswith("EGARCH"):
            state = omega + alpha * (np.abs(shock) - MEAN_SIZE) + gamma * shock + beta * state
        elif model.startswith("TARCH"):
            state = omega + (alpha + gamma * (error < 0)) * np.abs(error) + beta * volatility
        else:
            state = omega + (alpha + gamma * (error < 0)) * error**2 + beta * volatility**2
    return np.round(returns[:, BURN_IN:], 2)


def _volatility(state: Floats, model: str) -> Floats:
    """A day's volatility from what a model carries on: its logarithm, itself, or its square."""
    if model.startswith("EGARCH"):
        return np.exp(state / 2)
    return state if model.startswith("TARCH") else np.sqrt(state)


class SkewedShocks:
    """Shocks of mean 0 and variance 1, one for each path: Hansen's skewed t (1994, equations 10 to 13).

    degrees, skewness: of each path (paths,).
    """

    def __init__(self, degrees: Floats, skewness: Floats) -> None:
        logs = np.array([lgamma((one + 1) / 2) - lgamma(one / 2) for one in degrees.tolist()])
        density = np.exp(logs) / np.sqrt(np.pi * (degrees - 2))
        self._degrees, self._skewness = degrees, skewness
        self._shift = 4 * skewness * density * (degrees - 2) / (degrees - 1)
        self._scale = np.sqrt(1 + 3 * skewness**2 - self._shift**2)

    def draw(self, random: Random) -> Floats:
        """A shock of each path (paths,)."""
        degrees, skewness = self._degrees, self._skewness
        size = np.abs(random.standard_t(degrees)) * np.sqrt((degrees - 2) / degrees)
        left = random.random(len(degrees)) < (1 - skewness) / 2
        shocks: Floats = (np.where(left, skewness - 1, skewness + 1) * size - self._shift) / self._scale
        return shocks
