"""The results as the tables that the README has."""

from collections.abc import Sequence

from examples.logs.evaluation import FIRST, is_odd
from examples.logs.recipe import Outcome

HEAD = (
    f"| log | learnt | ranked, odd | Unroll: AUROC, odd in the first {FIRST} | character 5-gram | isolation forest "
    "| lead in AUROC, 95 % | characters/s a core |\n|---|---|---|---|---|---|---|---|"
)
DEEPLOG_FALSE, DEEPLOG_NORMAL = 833, 553_366  # Du et al. 2017, HDFS
DEEPLOG_MISSED, DEEPLOG_ABNORMAL = 619, 16_838


def row(outcome: Outcome) -> str:
    """One log's row of the table."""
    log, odd = outcome.log, is_odd(outcome.log.test)
    results = (outcome.unroll, outcome.grams, outcome.forest)
    figures = [f"{result.auroc:.4f}, {round(result.precision * min(FIRST, len(odd)))}" for result in results]
    low, high = outcome.lead()
    return (
        f"| {log.name}: {log.about} | {len(log.train):,} | {len(odd):,}, {int(odd.sum()):,} | "
        f"**{figures[0]}** | {figures[1]} | {figures[2]} | {low:+.4f} to {high:+.4f} | {outcome.pace:,.0f} |"
    )


def settings(outcome: Outcome) -> str:
    """What validation chose for a log, in a line."""
    chosen = {"Unroll": outcome.unroll, "5-gram": outcome.grams, "forest": outcome.forest}
    named = "; ".join(f"{name} {one.setting} ({one.validation:.4f})" for name, one in chosen.items())
    return f"{outcome.log.name}, chosen on validation (AUROC there): {named}"


def beside_deeplog(outcome: Outcome) -> str:
    """HDFS at the share of false alarms that DeepLog's paper has."""
    false_alarms = DEEPLOG_FALSE / DEEPLOG_NORMAL
    unroll, grams = outcome.found_at(false_alarms)
    return (
        f"HDFS at {false_alarms:.2%} false alarms, those of DeepLog's paper: Unroll finds {unroll:.1%} of the abnormal "
        f"sessions, the 5-gram {grams:.1%}; DeepLog found {1 - DEEPLOG_MISSED / DEEPLOG_ABNORMAL:.1%}."
    )


def headline(outcomes: Sequence[Outcome]) -> str:
    """On how many logs Unroll's AUROC is the highest."""
    ahead = [one.log.name for one in outcomes if one.unroll.auroc > one.rival.auroc]
    return f"Unroll's AUROC is the highest on {len(ahead)} of {len(outcomes)} logs: {', '.join(ahead) or 'none'}."
