"""A day as a few characters, and the distribution of its return that follows from how likely each code is."""

import numpy as np
from numpy.typing import NDArray

from examples.forecasting.figures import Forecasts
from examples.forecasting.returns import Floats, Running

OUTER = range(10)  # the third digit, which the outermost hundredths alone have
CODES = (*(f"00{at}" for at in OUTER), *(f"{at:02d}" for at in range(1, 99)), *(f"99{at}" for at in OUTER))
"""The language of a return: in which hundredth of the base distribution it lies, at both ends in which thousandth."""

BORDERS = np.concatenate([np.arange(10) / 1000, np.arange(1, 99) / 100, 0.99 + np.arange(11) / 1000])
"""Of the codes, in the base distribution (codes + 1,)."""

DEGREES = 7  # of freedom of the base distribution, Student's t with the variance of the running volatility
SCALE = np.sqrt((DEGREES - 2) / DEGREES)
LETTERS = np.array([*"abcdefghijklmnopqrstuvwxyz"])
VOLATILITY = (-3.0, 3.0)  # binary logarithm of the volatility of an "a", and letters for each doubling
FALLS = (-3.0, 1 / 0.15)  # the same of the falls in units of the volatility, in capitals


def day_texts(percent: Floats, running: Running) -> NDArray[np.str_]:
    """Days (…,) as text: a letter for the volatility, one for the share of falls, and the code of the return.

    The two letters are known before the day.
    """
    code = code_of(base_cdf(percent / running.volatility))
    return np.char.add(known_before(running), np.array(CODES)[code])


def code_of(places: Floats) -> NDArray[np.int64]:
    """Which code is that of places in the base distribution (…,), as a number."""
    found = np.searchsorted(BORDERS, places, side="right") - 1
    return np.asarray(np.clip(found, 0, len(CODES) - 1), np.int64)


def known_before(running: Running) -> NDArray[np.str_]:
    """The two letters that begin each day (…,)."""
    falls = np.maximum(running.falls / running.volatility, 1e-3)
    return np.char.add(_letters(running.volatility, *VOLATILITY), np.char.upper(_letters(falls, *FALLS)))


def _letters(values: Floats, lowest: float, each: float) -> NDArray[np.str_]:
    place = np.floor((np.log2(values) - lowest) * each).astype(np.int64)
    return LETTERS[np.clip(place, 0, len(LETTERS) - 1)]


def base_cdf(units: Floats) -> Floats:
    """The base distribution, of returns in units of the running volatility: Student's t, seven degrees of freedom."""
    angle = np.arctan(units / (SCALE * np.sqrt(DEGREES)))
    cosine = np.cos(angle)
    cdf: Floats = 0.5 + (angle + np.sin(angle) * cosine * (1 + 2 / 3 * cosine**2 + 8 / 15 * cosine**4)) / np.pi
    return cdf


class TextForecasts(Forecasts):
    """Forecasts of days (n,) by the probability of each code.

    Between the borders of a code, a return is as likely as the base distribution says: no density is lost or made.

    probabilities: of each code (n, codes). volatility: running, of each day (n,).
    """

    def __init__(self, probabilities: Floats, volatility: Floats) -> None:
        self.volatility = volatility
        sums = np.cumsum(probabilities, axis=1)
        self._below = np.concatenate([np.zeros((len(sums), 1)), sums / sums[:, -1:]], axis=1)

    def cdf(self, percent: Floats) -> Floats:
        place = base_cdf(percent / self.volatility[:, None])
        code = code_of(place)
        day = np.arange(len(percent))[:, None]
        low, high = self._below[day, code], self._below[day, code + 1]
        below: Floats = low + (place - BORDERS[code]) / (BORDERS[code + 1] - BORDERS[code]) * (high - low)
        return below
