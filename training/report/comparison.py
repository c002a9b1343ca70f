"""The page of a comparison: sections of tables and charts in the look of a run's report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.errors import TrainingError
from model.files import replace_file
from training.report.curves import NARROW, WIDE, Chart, draw, legend
from training.report.elements import Markup, element, joined, table
from training.report.report import ICON, head


@dataclass(frozen=True)
class ComparisonTable:
    """A table with a title; every row is as long as the head."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Section:
    """A part of the page. name: of its anchor. words: how the figures were taken."""

    name: str
    title: str
    words: str
    tables: Sequence[ComparisonTable]
    charts: Sequence[Chart] = ()


def write_comparison(title: str, words: str, sections: Sequence[Section], path: Path) -> None:
    """Write the page, whole or not at all; equal sections give equal bytes. Raises TrainingError."""
    try:
        replace_file(path, comparison(title, words, sections).encode())
    except OSError as error:
        raise TrainingError(
            f"The page could not be written to {path} ({error.strerror}); free some space, or choose another --out."
        ) from error


def comparison(title: str, words: str, sections: Sequence[Section]) -> str:
    """The page as HTML."""
    links = [element("li", element("a", one.title, href=f"#{one.name}")) for one in sections]
    body = [
        element("header", ICON, element("h1", title), element("p", words)),
        element("nav", element("ul", *links), aria_label="Parts of the comparison"),
        element("main", joined(["", *map(_section, sections), ""], "\n")),
        element("footer", element("p", "All figures are also in compare.json beside this page.")),
    ]
    page = element("html", head(title), element("body", joined(["", *body, ""], "\n")), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _section(one: Section) -> Markup:
    tables = [Markup(element("h3", part.title) + table(part.head, part.rows)) for part in one.tables]
    charts = [
        element(
            "figure",
            element("h3", chart.summary),
            legend(chart.series),
            draw(chart, WIDE, "wide"),
            draw(chart, NARROW, "narrow"),
        )
        for chart in one.charts
    ]
    heading = element("h2", one.title, id=f"{one.name}-title")
    return element(
        "section", heading, element("p", one.words), *charts, *tables, id=one.name, aria_labelledby=f"{one.name}-title"
    )
