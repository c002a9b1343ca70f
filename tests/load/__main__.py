"""Run a load script: `python -m tests.load NAME`."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.benchmarks.figures import Figure, show
from tests.load import cancelling, chaos, draining, hostile, kills, mixed, models, replicas, saturation, states

FIGURES = {
    "requests": mixed.measure,
    "saturation": saturation.measure,
    "cancel": cancelling.measure,
    "drain": draining.measure,
    "models": models.measure,
    "states": states.measure,
    "kills": kills.measure,
    "replicas": replicas.measure,
}


def as_they_come(figures: Iterable[Figure]) -> Iterator[Figure]:
    """Each figure, told at once: a quarter of an hour lies between the first and the table."""
    for figure in figures:
        missed = " (missed)" if figure.holds is False else ""
        sys.stderr.write(f"{figure.name}: {figure.value:,.4g} {figure.unit}{missed}\n")
        yield figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and show; the exit status is 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("name", choices=[*FIGURES, "hostile", "chaos"])
    parser.add_argument("--markdown", type=Path, help="also write the table of chaos to this file")
    parser.add_argument("--only", help="of hostile and chaos, only what has this in its name")
    chosen = parser.parse_args(arguments)
    names = {"hostile": [*hostile.ATTACKS, "ulimit"], "chaos": chaos.names()}.get(chosen.name, [])
    if chosen.only is not None and not any(chosen.only in name for name in names):
        parser.error(
            f"--only: {chosen.name} has no part with {chosen.only!r} in its name, but {', '.join(names) or 'none'}"
        )
    if chosen.markdown is not None and chosen.name != "chaos":
        parser.error(f"--markdown: {chosen.name} has no table of that kind, but chaos")
    if chosen.name == "chaos":
        sys.exit(0 if chaos.show(chosen.markdown, chosen.only) else "A bystander saw something.")
    figures = list(as_they_come(hostile.measure(chosen.only))) if chosen.name == "hostile" else FIGURES[chosen.name]()
    Path("build").mkdir(exist_ok=True)
    show(figures, Path(f"build/load-{chosen.name}.json"))
    if missed := [figure.name for figure in figures if figure.holds is False]:
        sys.exit("Missed: " + "; ".join(missed) + ".")


if __name__ == "__main__":
    main()
