"""The recipe: a corpus of days as text, one model trained on it, and its forecasts beside those of the rivals."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

import unroll
from examples.forecasting.day_text import BORDERS, CODES, TextForecasts, day_texts, known_before
from examples.forecasting.figures import Figures, figures_of
from examples.forecasting.made_paths import drawn_parameters, made_paths
from examples.forecasting.returns import NAMES, WARM_UP, Floats, Returns, Running, load
from examples.forecasting.rivals import MODELS, forecasts_of

SHARES = {"sp500": 0.35, "nasdaq": 0.3, "wti": 0.25, "vix": 0.1}  # of the made paths
KINDS = {"TARCH, skewed t": 0.6, "EGARCH, skewed t": 0.3, "GJR-GARCH, skewed t": 0.1}
PARAMETERS = 200  # drawn for each kind of path
APART = 20  # days between the beginnings of two windows of a series
TIMES = 2  # that each window of a series stands in the corpus
CARRIED = 500  # days before the first forecast from which on a series is read
BASE = "running volatility alone"
OURS = "Unroll"


class Size(NamedTuple):
    """How much is made and trained.

    paths: made. days: of a path and of a window of a series. hidden, layers: of the network. epochs: of training.
    """

    paths: int = 16_000
    days: int = 250
    hidden: int = 96
    layers: int = 2
    epochs: float = 1


QUICK = Size(paths=60, days=60, hidden=24, layers=1)


@dataclass(frozen=True)
class Period:
    """The days that are forecast: from the first of a year to before another; all before are learnt from.

    most: days that are forecast at most, the first ones.
    """

    begin: int
    end: int
    most: int | None = None

    def places(self, returns: Returns) -> tuple[int, int]:
        """The first day to forecast, and the day after the last."""
        first, end = returns.first_of(self.begin), returns.first_of(self.end)
        return first, end if self.most is None else min(end, first + self.most)


TEST = Period(2015, 2019)
VALIDATION = Period(2011, 2015)


class Model(Protocol):
    """What the recipe asks of a model that `unroll.train` or `unroll.load` gave."""

    def choice_logprobs(self, choices: Sequence[str], contexts: Iterable[str], *, label: str) -> Floats:
        """ln p that an item of the label goes on with each choice after each context (contexts, choices)."""


class Outcome(NamedTuple):
    """The figures of each method on the days of one series."""

    name: str
    days: int
    figures: dict[str, Figures]


def learnable(period: Period) -> list[Returns]:
    """The series with enough days before a period to learn from, those days alone."""
    every = [load(name) for name in NAMES]
    before = [one.until(one.first_of(period.begin)) for one in every]
    return [one for one in before if len(one.percent) >= 3 * WARM_UP]


def corpus(series: list[Returns], size: Size, seed: int) -> Iterator[str]:
    """The items to learn: windows of the series, and paths of models that are fitted to them."""
    random = np.random.default_rng(seed)
    for one in series:
        text = f"{one.name}|"
        running = Running.of(one.percent)
        days = day_texts(one.percent, running)
        width = min(size.days, len(days) - WARM_UP)
        windows = ["".join(days[at : at + width]) for at in range(len(days) - width, WARM_UP - 1, -APART)]
        yield from (text + window for window in windows * TIMES)
        for model, part in KINDS.items():
            parameters = drawn_parameters(random, one.percent, model, PARAMETERS)
            count = round(size.paths * SHARES[one.name] * part)
            paths = made_paths(random, model, parameters, count, WARM_UP + size.days)
            known = Running.of(paths).from_day(WARM_UP)
            yield from (text + "".join(path) for path in day_texts(paths[:, WARM_UP:], known))


def trained(series: list[Returns], folder: Path, size: Size, seed: int) -> Model:
    """A model of all series, with the command that the README shows."""
    folder.mkdir(parents=True, exist_ok=True)
    items = list(corpus(series, size, seed))
    np.random.default_rng(seed).shuffle(items)
    file = folder / "days.txt"
    file.write_text("".join(f"{item}\n" for item in items), encoding="utf-8")
    return unroll.train(
        file,
        out=folder / "run",
        overwrite=True,
        label="prefix",
        epochs=size.epochs,
        layers=size.layers,
        hidden=size.hidden,
        embedding=16,
        sequence_length=128,
        batch_size=48,
        dropout=0.0,
        average=0.25,
        fit_temperature=False,
        split="98/1/1",
        seed=seed,
    )


def text_forecasts(model: Model, returns: Returns, period: Period) -> TextForecasts:
    """One day ahead: how likely each code is after all days before and the letters known before the day."""
    first, end = period.places(returns)
    begin = max(WARM_UP, first - CARRIED)
    running = Running.of(returns.percent[:end])
    days = day_texts(returns.percent[:end], running)[begin:].tolist()
    known = known_before(running)[begin:].tolist()
    contexts = ("".join(days[:at]) + known[at] for at in range(first - begin, len(days)))
    chances = np.exp(model.choice_logprobs(CODES, contexts, label=returns.name))
    return TextForecasts(chances, running.volatility[first:end])


def outcome(model: Model, name: str, period: Period) -> Outcome:
    """What the model and its rivals forecast of a series."""
    returns = load(name)
    first, end = period.places(returns)
    came = returns.percent[first:end]
    ours = text_forecasts(model, returns, period)
    even = TextForecasts(np.tile(np.diff(BORDERS), (len(came), 1)), ours.volatility)
    figures = {BASE: figures_of(even, came)}
    for rival in MODELS:
        figures[rival] = figures_of(forecasts_of(returns, rival, first, end), came)
    figures[OURS] = figures_of(ours, came)
    return Outcome(name, end - first, figures)
