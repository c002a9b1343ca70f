"""The results as the tables that the README has."""

from examples.forecasting.figures import QUANTILES
from examples.forecasting.recipe import OURS, Outcome

PAIRED = "GJR-GARCH, t"  # the rival that leads are told over
HEAD = "| series | days | forecast by | nats a day | CRPS | days below the quantiles, % |\n|---|---|---|---|---|---|"


def rows(outcome: Outcome) -> list[str]:
    """A row of the table for each method, a series after the other."""
    found = []
    for name, figures in outcome.figures.items():
        below = " / ".join(f"{100 * share:.1f}" for share in figures.below)
        shown = f"**{name}**" if name == OURS else name
        found.append(
            f"| {outcome.name} | {outcome.days:,} | {shown} | {figures.nats.mean():.4f} | {figures.crps.mean():.4f} "
            f"| {below} |"
        )
    return found


def leads(outcomes: list[Outcome]) -> list[str]:
    """By how much the model is ahead of GJR-GARCH, and of the best of all rivals, in lines."""
    lines = ["The quantiles are " + ", ".join(f"{quantile:.0%}" for quantile in QUANTILES) + "."]
    for outcome in outcomes:
        ours = outcome.figures[OURS]
        rivals = {name: figures for name, figures in outcome.figures.items() if name != OURS}
        best = min(rivals, key=lambda name: float(rivals[name].nats.mean()))
        for name in dict.fromkeys([PAIRED, best]):
            mean, low, high = ours.lead(rivals[name])
            lines.append(
                f"{outcome.name}: {OURS} is {mean:+.4f} nats a day ahead of {name} (95 % of {low:+.4f} to {high:+.4f})."
            )
    return lines
