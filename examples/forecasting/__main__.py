"""`python -m examples.forecasting` trains one model of four series and prints the README's table."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import unroll
from examples.forecasting.recipe import QUICK, TEST, VALIDATION, Period, Size, learnable, outcome, trained
from examples.forecasting.table import HEAD, leads, rows

program = typer.Typer(add_completion=False, rich_markup_mode=None)
FEW_DAYS = 40  # that are forecast with --quick


@program.command()
def table(
    validation: Annotated[
        bool, typer.Option("--validation", help="Learn until 2010 and forecast 2011 to 2014: what all was chosen on.")
    ] = False,
    paths: Annotated[int, typer.Option(help="Paths made of volatility models.", min=20)] = Size().paths,
    seed: Annotated[int, typer.Option(help="Of the made paths and of training.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of the corpus and the run.")] = Path("runs/forecasting"),
    model: Annotated[
        Path | None, typer.Option(help="A checkpoint that the recipe has trained: nothing is made or trained.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tiny model and a few days of two series: to see that all works.")
    ] = False,
) -> None:
    """Train on the days before 2015, forecast 2015 to 2018 one day ahead, print the table."""
    period = VALIDATION if validation else TEST
    size = QUICK if quick else Size(paths=paths)
    if quick:
        period = Period(period.begin, period.end, FEW_DAYS)
    try:
        series = learnable(period)
    except ModuleNotFoundError as error:
        typer.echo(f"The recipe needs {error.name}; install it with `pip install -e '.[examples]'`.", err=True)
        raise typer.Exit(2) from None
    if quick:
        series = series[:2]
    forecaster = trained(series, out, size, seed) if model is None else unroll.load(model)
    typer.echo(HEAD)
    outcomes = []
    for one in series:
        outcomes.append(outcome(forecaster, one.name, period))
        typer.echo("\n".join(rows(outcomes[-1])))
        sys.stdout.flush()
    typer.echo("\n" + "\n".join(leads(outcomes)))


if __name__ == "__main__":
    program()
