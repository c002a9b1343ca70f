"""Daily returns from the package `arch`, and what of them is known before a day begins."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NAMES = ("sp500", "nasdaq", "wti", "vix")
STEP = 0.01  # per cent: returns are rounded to it
WARM_UP = 60  # days that begin the running figures
KEEPS = 0.94  # of a running figure from one day to the next, as RiskMetrics has it
LEAST = 0.01  # per cent: a running volatility is no smaller


class Returns(NamedTuple):
    """A series of daily returns: 100 × the difference of logarithms, rounded to 0.01; of each its day (n,)."""

    name: str
    days: NDArray[np.datetime64]
    percent: Floats

    def first_of(self, year: int) -> int:
        """The place of the first day of a year, or of a later one."""
        return int(np.searchsorted(self.days, np.datetime64(f"{year}-01-01")))

    def until(self, end: int) -> "Returns":
        """The days before one."""
        return Returns(self.name, self.days[:end], self.percent[:end])


class Running(NamedTuple):
    """What is known before each day, of paths of returns (…, days).

    volatility: of a day, from the squares of the returns before it. falls: the mean of the losses before it, a rise
    being no loss. Both fade by `KEEPS` a day, in per cent.
    """

    volatility: Floats
    falls: Floats

    @classmethod
    def of(cls, percent: Floats) -> "Running":
        """The figures of paths (…, days) whose first `WARM_UP` days begin them, and are not to be forecast."""
        losses = np.maximum(-percent, 0)
        squares, falls = np.empty_like(percent), np.empty_like(percent)
        squares[..., 0] = np.mean(percent[..., :WARM_UP] ** 2, axis=-1)
        falls[..., 0] = np.mean(losses[..., :WARM_UP], axis=-1)
        for day in range(1, percent.shape[-1]):
            squares[..., day] = KEEPS * squares[..., day - 1] + (1 - KEEPS) * percent[..., day - 1] ** 2
            falls[..., day] = KEEPS * falls[..., day - 1] + (1 - KEEPS) * losses[..., day - 1]
        return cls(np.sqrt(np.maximum(squares, LEAST**2)), falls)

    def from_day(self, first: int) -> "Running":
        """The same of the days from one on."""
        return Running(self.volatility[..., first:], self.falls[..., first:])


def load(name: str) -> Returns:
    """One of the series that `arch` holds: closing prices (adjusted, of the indices), as daily returns."""
    from importlib import import_module

    table: Any = import_module(f"arch.data.{name}").load()
    prices = (table["Adj Close"] if "Adj Close" in table else table.iloc[:, 0]).dropna()
    logarithms = np.log(prices.to_numpy(np.float64))
    days = prices.index.to_numpy().astype("datetime64[D]")
    return Returns(name, days[1:], np.round(100 * np.diff(logarithms), 2))
