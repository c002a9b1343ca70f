"""`python -m examples.forecasting` trains one model of four series and prints the README's table."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import unroll
from examples.forecasting.recipe import QUICK, TEST, VALIDATION, Period, Size, learnable, outcome, trained
from examples.forecasting.table import HEAD, leads, rows
from examples.running import QUICK as MINIATURE
from examples.running import errors_told, need

program = typer.Typer(add_completion=False, rich_markup_mode=None)
FEW_DAYS = 40  # that are forecast with --quick


@program.command()
@errors_told()
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
        bool,
        typer.Option(
            "--quick",
            help="Tiny model, few days of two series, a folder of their own: to see that all works.",
        ),
    ] = False,
) -> None:
    """Train on the days before 2015, forecast 2015 to 2018 one day ahead, print the table."""
    period = VALIDATION if validation else TEST
    size = QUICK if quick else Size(paths=paths)
    if quick:
        period = Period(period.begin, period.end, FEW_DAYS)
    need("arch")
    series = learnable(period)
    if quick:
        series, out = series[:2], out / MINIATURE
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
