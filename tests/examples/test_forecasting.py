"""The recipe for forecasting: its language, its figures and its made paths; in miniature all of it."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from examples.forecasting.__main__ import program
from examples.forecasting.day_text import BORDERS, CODES, TextForecasts, base_cdf, day_texts, known_before
from examples.forecasting.figures import Forecasts, figures_of
from examples.forecasting.made_paths import SkewedShocks, made_paths
from examples.forecasting.returns import WARM_UP, Floats, Running

PAGE = (Path(__file__).parents[2] / "examples" / "forecasting" / "README.md").read_text("utf-8")
DAYS = 400
PERCENT = np.round(np.random.default_rng(4).standard_t(5, DAYS), 2)
EVEN = np.tile(np.diff(BORDERS), (DAYS, 1))


class Uniform(Forecasts):
    """Each return is as likely as any from −1 to 1 per cent."""

    volatility = np.ones(3)

    def cdf(self, percent: Floats) -> Floats:
        return np.clip((percent + 1) / 2, 0, 1)


def test_a_day_is_two_letters_known_before_it_and_the_digits_of_its_return() -> None:
    running = Running.of(PERCENT)
    days, known = day_texts(PERCENT, running), known_before(running)
    assert {len(day) for day in days.tolist()} == {4, 5}
    assert {day[2:4] for day in days.tolist() if len(day) == 5} == {"00", "99"}
    assert [day[:2] for day in days.tolist()] == known.tolist()
    changed = PERCENT.copy()
    changed[300] = -9.0
    other = known_before(Running.of(changed))
    assert (other[:301] == known[:301]).all()
    assert other[301] != known[301]
    assert day_texts(changed, Running.of(changed))[300][2:] == "000"


def test_paths_side_by_side_are_paths_alone() -> None:
    paths = np.stack([PERCENT, 2 * PERCENT])
    together = day_texts(paths, Running.of(paths))
    assert (together[0] == day_texts(PERCENT, Running.of(PERCENT))).all()
    assert [day[2:] for day in together[1].tolist()] == [day[2:] for day in together[0].tolist()]


def test_the_base_distribution_is_student_s_t_of_variance_one() -> None:
    for share, quantile in ((0.9, 1.4149), (0.95, 1.8946), (0.99, 2.9980)):  # of t with 7 degrees, as tables have them
        units = quantile * np.sqrt(5 / 7)
        assert base_cdf(np.array([units, -units])).tolist() == pytest.approx([share, 1 - share], abs=1e-4)


def test_even_digits_are_the_base_distribution_and_no_density_is_lost() -> None:
    volatility = Running.of(PERCENT).volatility
    points = np.linspace(-4, 4, 9) * np.ones((DAYS, 1))
    assert np.allclose(TextForecasts(EVEN, volatility).cdf(points), base_cdf(points / volatility[:, None]))
    chances = np.random.default_rng(1).dirichlet(np.ones(len(CODES)), DAYS)
    forecasts = TextForecasts(chances, volatility)
    assert forecasts.cdf(np.array([[-1e6, 1e6]]) * np.ones((DAYS, 1)))[:, 1] == pytest.approx(np.ones(DAYS))
    edges = forecasts.cdf(np.linspace(-60, 60, 500) * np.ones((DAYS, 1)))
    assert (np.diff(edges) >= 0).all()
    middle = base_cdf(PERCENT / volatility)
    codes = [CODES.index(day[2:]) for day in day_texts(PERCENT, Running.of(PERCENT)).tolist()]
    low, high = BORDERS[codes], BORDERS[np.array(codes) + 1]
    assert ((low <= middle) & (middle < high)).all()
    inside, sums = chances[np.arange(DAYS), codes], np.cumsum(chances, axis=1)[np.arange(DAYS), codes]
    below = forecasts.cdf(PERCENT[:, None])[:, 0]
    assert below == pytest.approx(sums - inside * (high - middle) / (high - low))


def test_codes_are_told_apart_as_they_are_read() -> None:
    assert len(set(CODES)) == len(CODES) == len(BORDERS) - 1
    assert not [one for one in CODES if any(other != one and other.startswith(one) for other in CODES)]
    assert sorted(CODES) == list(CODES)
    assert (np.diff(BORDERS) > 0).all()


def test_figures_of_a_uniform_distribution_are_those_of_paper() -> None:
    found = figures_of(Uniform(), np.array([0.0, 0.5, -0.99]))
    assert found.nats.tolist() == pytest.approx([np.log(200)] * 3)
    # ∫(F − 1)² above the return y and ∫F² below it: ((1 + y)³ + (1 − y)³) / 12
    assert found.crps.tolist() == pytest.approx([1 / 6, (1.5**3 + 0.5**3) / 12, (0.01**3 + 1.99**3) / 12], abs=1e-4)
    assert found.below == pytest.approx((1 / 3, 1 / 3, 1 / 3, 1, 1))
    mean, low, high = found.lead(found)
    assert (mean, low, high) == (0, 0, 0)


def test_shocks_have_mean_zero_and_variance_one() -> None:
    random = np.random.default_rng(2)
    drawn = SkewedShocks(np.full(1000, 9.0), np.full(1000, -0.3))
    shocks = np.array([drawn.draw(random) for _ in range(300)])
    assert [shocks.mean(), shocks.std()] == pytest.approx([0, 1], abs=0.01)
    assert (shocks**3).mean() < -0.3


@pytest.mark.parametrize(
    ("model", "parameters", "volatility"),
    [
        ("GJR-GARCH, skewed t", [0, 0.05, 0.02, 0.1, 0.88, 20, 0], np.sqrt(0.05 / (1 - 0.02 - 0.05 - 0.88))),
        ("TARCH, skewed t", [0, 0.02, 0.0, 0.1, 0.93, 200, 0], 0.02 / (1 - 0.93 - 0.05 * np.sqrt(2 / np.pi))),
        ("EGARCH, skewed t", [0, 0.01, 0.1, -0.1, 0.9, 200, 0], np.exp(0.05)),
    ],
)
def test_paths_have_the_volatility_of_their_model(model: str, parameters: list[float], volatility: float) -> None:
    paths = made_paths(np.random.default_rng(3), model, np.array([parameters]), 1000, WARM_UP)
    assert paths.shape == (1000, WARM_UP)
    assert (np.abs(np.round(paths, 2) - paths) < 1e-9).all()
    assert np.sqrt((paths**2).mean()) == pytest.approx(volatility, rel=0.1)
    rose = paths[:, 1:][paths[:, :-1] > 1.0]
    fell = paths[:, 1:][paths[:, :-1] < -1.0]
    assert (fell**2).mean() > 1.05 * (rose**2).mean()


@pytest.mark.examples
def test_the_rivals_figures_are_those_of_the_page() -> None:
    from examples.forecasting.recipe import TEST
    from examples.forecasting.returns import load
    from examples.forecasting.rivals import forecasts_of

    returns = load("sp500")
    first, end = TEST.places(returns)
    assert end - first == 1006
    for model in ("GARCH(1,1), t", "GJR-GARCH, t"):
        found = figures_of(forecasts_of(returns, model, first, end), returns.percent[first:end])
        assert f"| {model} | {found.nats.mean():.4f} | {found.crps.mean():.4f} |" in PAGE


@pytest.mark.examples
@pytest.mark.timeout(300)  # seconds of a core, which a busy machine may have to share
def test_the_recipe_runs_in_miniature(tmp_path: Path) -> None:
    result = CliRunner().invoke(program, ["--quick", "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = [line.split(" | ") for line in result.output.splitlines() if line.startswith(("| sp500", "| nasdaq"))]
    assert len(rows) == 14
    ours = [float(row[3]) for row in rows if row[2] == "**Unroll**"]
    assert all(5 < nats < 7 for nats in ours)
    items = (tmp_path / "quick" / "days.txt").read_text("utf-8").splitlines()
    assert {item.split("|")[0] for item in items} == {"sp500", "nasdaq"}
