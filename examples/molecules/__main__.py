"""`python -m examples.molecules` trains on MOSES's molecules, draws 30,000 and prints the README's table."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from examples.molecules.recipe import QUICK, WHOLE, Recipe
from examples.molecules.table import HEAD, PUBLISHED, choices, row
from examples.running import QUICK as MINIATURE
from examples.running import errors_told

program = typer.Typer(add_completion=False, rich_markup_mode=None)


@program.command()
@errors_told()
def table(
    out: Annotated[Path, typer.Option(help="Folder of the list, the run and what is drawn.")] = Path("runs/molecules"),
    epochs: Annotated[float | None, typer.Option(help="Passes over the molecules, in place of the recipe's.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="A checkpoint of molecules: nothing is trained, and its row is made alone.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Tiny model, few molecules, a folder of their own: to see that all works."),
    ] = False,
) -> None:
    """Train on MOSES's molecules, draw as many as it asks for, print its table; a run that was stopped goes on."""
    size = QUICK if quick else WHOLE
    if epochs is not None:
        size = size._replace(options=(*size.options, "--epochs", str(epochs)))
    recipe = Recipe(out / MINIATURE if quick else out, size)
    outcomes = recipe.rows(recipe.trained()) if model is None else iter([recipe.of_model(model)])
    typer.echo(HEAD)
    below: list[str] = []
    for outcome in outcomes:
        typer.echo(row(outcome.name, outcome.measures))
        sys.stdout.flush()
        below += choices(outcome)
    typer.echo("\n".join(row(name, measures) for name, measures in PUBLISHED.items()))
    typer.echo("\n" + "\n".join(below))


if __name__ == "__main__":
    program()
