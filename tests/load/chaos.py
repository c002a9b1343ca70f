"""What each client saw as a server was stopped, killed, starved, broken, and asked badly: one table."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.timing import CLIENT_CORE, on_core
from tests.load import chaos_clients, chaos_ends, chaos_faults, chaos_system
from tests.load.bystanders import Row

COLUMNS = ("what was done", "what those saw to whom it was done", "what bystanders saw", "what the server did after")
LIMIT_SECONDS = 120  # of one scenario

SCENARIOS: list[Callable[[], Awaitable[Row]]] = [
    *chaos_ends.SCENARIOS,
    *chaos_clients.SCENARIOS,
    *chaos_faults.SCENARIOS,
    *chaos_system.SCENARIOS,
]


def names() -> list[str]:
    """What `--only` chooses by: the name of each scenario."""
    return [getattr(scenario, "__name__", "") for scenario in SCENARIOS]


async def limited(scenario: Callable[[], Awaitable[Row]]) -> Row:
    """A scenario that takes no longer than it may."""
    async with asyncio.timeout(LIMIT_SECONDS):
        return await scenario()


def show(markdown: Path | None, only: str | None) -> bool:
    """Run all scenarios, or those with `only` in their name, and print the table; whether all rows hold."""
    rows = []
    with on_core(CLIENT_CORE):
        for scenario, name in zip(SCENARIOS, names(), strict=True):
            if only is None or only in name:
                rows.append(asyncio.run(limited(scenario)))
                Console().print(f"{'as it has to be' if rows[-1].holds else 'NOT AS IT HAS TO BE'}: {rows[-1].done}")
    table = Table(*COLUMNS, "holds", show_lines=True)
    for row in rows:
        table.add_row(*row[:4], "yes" if row.holds else "NO")
    Console(width=180).print(table)
    if markdown is not None:
        lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row[:4]) + " |" for row in rows]
        markdown.write_text("\n".join(lines) + "\n", "utf-8")
    return all(row.holds for row in rows)
