"""`python -m examples.logs` makes the README's table; `live` watches a log that grows."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from examples.logs.by_unroll import checkpoint_of
from examples.logs.live import Live, watch
from examples.logs.plantings import replant
from examples.logs.recipe import LOGS, Outcome, run
from examples.logs.sets import FOREIGN, made
from examples.logs.sources import MIRROR, Library
from examples.logs.table import HEAD, beside_deeplog, headline, row, settings
from examples.running import QUICK, RecipeError, errors_told, need

program = typer.Typer(add_completion=False, rich_markup_mode=None)
OUT = Path("runs/logs")
LIVE = "live.json"
FEW = (600, 200)  # lines to learn and to rank of the made log


@program.callback(invoke_without_command=True)
@errors_told()
def table(
    context: typer.Context,
    only: Annotated[list[str] | None, typer.Option(help=f"Logs, of {', '.join(LOGS)}.")] = None,
    data: Annotated[Path, typer.Option(help="Folder of others' files.")] = OUT / "data",
    out: Annotated[Path, typer.Option(help="Folder of runs and results.")] = OUT,
    mirror: Annotated[str, typer.Option(help="Where files that lack are read from.")] = MIRROR,
    quick: Annotated[
        bool,
        typer.Option(help="Small models, few lines of the made log, a folder of their own: to see that all works."),
    ] = False,
) -> None:
    """Train on each log, rank its lines with Unroll and its rivals, print the table."""
    if context.invoked_subcommand:
        return
    unknown = sorted(set(only or ()) - set(LOGS))
    if unknown:
        raise typer.BadParameter(f"There is no log {', '.join(unknown)}; choose of {', '.join(LOGS)}.")
    library = Library(data, mirror)
    outcomes = []
    need("sklearn")
    logs = [made(*FEW) if name == "made" and quick else LOGS[name](library) for name in only or list(LOGS)]
    out = out / QUICK if quick else out
    for note in library.notes:
        typer.echo(note, err=True)
    typer.echo(HEAD)
    for log in logs:
        outcome = run(log, out / log.name, quick)
        outcomes.append(outcome)
        typer.echo(row(outcome))
        sys.stdout.flush()
        (out / log.name / LIVE).write_text(json.dumps({"threshold": outcome.threshold}), encoding="utf-8")
    typer.echo("\n" + "\n".join(_below(outcomes)))


def _below(outcomes: list[Outcome]) -> list[str]:
    """What stands below the table."""
    deeplog = [beside_deeplog(one) for one in outcomes if one.log.name == "HDFS"]
    return [*map(settings, outcomes), *deeplog, headline(outcomes)]


@program.command()
@errors_told()
def live(
    out: Annotated[Path, typer.Option(help="Folder of runs, with that of the made log.")] = OUT,
    lines: Annotated[int, typer.Option(help="Lines to write.")] = 200,
    pause: Annotated[float, typer.Option(help="Seconds between two.")] = 0.05,
) -> None:
    """Write a log and watch it with tail -f: odd lines are shown as they come."""
    folder = out / "made"
    _need(out, "made")
    threshold = json.loads((folder / LIVE).read_text("utf-8"))["threshold"]
    for found in watch(checkpoint_of(folder), threshold, folder / "live.log", lines, pause):
        if isinstance(found, Live):
            typer.echo(
                f"{found.written} lines, {found.odd} of them odd: {found.found} shown, the latest after "
                f"{found.seconds:.2f} seconds; {found.false_alarms} false alarms."
            )
        else:
            typer.echo(found)


@program.command()
@errors_told()
def plantings(
    data: Annotated[Path, typer.Option(help="Folder of others' files.")] = OUT / "data",
    out: Annotated[
        Path, typer.Option(help="Folder of runs, with those of the logs that odd lines are planted in.")
    ] = OUT,
) -> None:
    """Rank with other odd lines planted: whether a lead is an accident of one planting."""
    _need(out, *FOREIGN)
    for found in replant(Library(data), out):
        typer.echo(str(found))


def _need(out: Path, *names: str) -> None:
    """End where a log has no model yet."""
    for name in names:
        if not (out / name / LIVE).is_file():
            raise RecipeError(f"There is no model of {name} yet; run `python -m examples.logs --only {name}` first.")


if __name__ == "__main__":
    program()
