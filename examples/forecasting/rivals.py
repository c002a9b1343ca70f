"""The rivals of the field: volatility models of the package `arch`, fitted anew each year to all days before it."""

from typing import Any

import numpy as np

from examples.forecasting.figures import Forecasts
from examples.forecasting.returns import Floats, Returns

MODELS: dict[str, dict[str, Any]] = {
    "GARCH(1,1), t": {"vol": "GARCH", "p": 1, "q": 1, "dist": "t"},
    "GJR-GARCH, t": {"vol": "GARCH", "p": 1, "o": 1, "q": 1, "dist": "t"},
    "GJR-GARCH, skewed t": {"vol": "GARCH", "p": 1, "o": 1, "q": 1, "dist": "skewt"},
    "EGARCH, skewed t": {"vol": "EGARCH", "p": 1, "o": 1, "q": 1, "dist": "skewt"},
    "TARCH, skewed t": {"vol": "GARCH", "p": 1, "o": 1, "q": 1, "power": 1.0, "dist": "skewt"},
}
SHAPES = {"t": 1, "skewt": 2}  # parameters of a distribution


class VolatilityForecasts(Forecasts):
    """Forecasts by a model's volatility, its mean and the distribution of its shocks, all of the same year.

    volatility, mean: of each day (n,). shapes: parameters of the distribution (k,).
    """

    def __init__(self, volatility: Floats, mean: float, distribution: Any, shapes: Floats) -> None:
        self.volatility, self._mean = volatility, mean
        self._distribution, self._shapes = distribution, shapes

    def cdf(self, percent: Floats) -> Floats:
        units = (percent - self._mean) / self.volatility[:, None]
        return np.asarray(self._distribution.cdf(units.ravel(), self._shapes)).reshape(units.shape)


class YearlyForecasts(Forecasts):
    """The forecasts of some years, one after the other."""

    def __init__(self, years: list[Forecasts]) -> None:
        self.volatility = np.concatenate([year.volatility for year in years])
        self._years = years

    def cdf(self, percent: Floats) -> Floats:
        ends = np.cumsum([len(year.volatility) for year in self._years])[:-1]
        parts = zip(self._years, np.split(percent, ends), strict=True)
        return np.concatenate([year.cdf(part) for year, part in parts])


def fitted(returns: Floats, model: str, days: int) -> tuple[Any, Any]:
    """A model of `arch` for a series (n,), and its result of fitting the first `days` of it."""
    from arch import arch_model

    made = arch_model(returns, mean="Constant", **MODELS[model])
    return made, made.fit(disp="off", show_warning=False, last_obs=days)


def forecasts_of(returns: Returns, model: str, first: int, end: int) -> Forecasts:
    """One day ahead, the days from `first` to before `end`: parameters of a year are fitted to the days before it."""
    years: list[Forecasts] = []
    percent = returns.percent[:end]
    while first < end:
        year = int(str(returns.days[first])[:4])
        last = min(end, returns.first_of(year + 1))
        made, result = fitted(percent, model, first)
        volatility = np.asarray(made.fix(result.params).conditional_volatility, np.float64)[first:last]
        parameters = result.params.to_numpy(np.float64)
        shapes = parameters[-SHAPES[MODELS[model]["dist"]] :]
        years.append(VolatilityForecasts(volatility, float(parameters[0]), made.distribution, shapes))
        first = last
    return YearlyForecasts(years)
