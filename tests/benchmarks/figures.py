"""A measured figure with its target, and how figures are printed and kept."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One line of the benchmark.

    target: None when the figure is for information. bound: whether the target is the least or the most allowed.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    bound: Literal["least", "most"] = "least"

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.bound == "least" else self.value <= self.target


def counted(count: int, name: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{count} {name}{'s' if count > 1 else ''}"


def show(figures: list[Figure], path: Path) -> None:
    """Print a table and write the same as a list of {name, value, unit, target, holds}."""
    table = Table("figure", "value", "unit", "target", "holds")
    for figure in figures:
        sign = "≥" if figure.bound == "least" else "≤"
        target = "" if figure.target is None else f"{sign} {figure.target:g}"
        holds = {None: "", True: "yes", False: "NO"}[figure.holds]
        table.add_row(figure.name, f"{figure.value:,.4g}" if figure.value < 1e4 else f"{figure.value:,.0f}",
                      figure.unit, target, holds)  # fmt: skip
    Console(width=120).print(table)
    kept = [{k: v for k, v in asdict(f).items() if k != "bound"} | {"holds": f.holds} for f in figures]
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
