"""The lines that a run prints: its plan before it begins, its results when it ends."""

import shlex
from pathlib import Path

import torch
from rich.console import Console

from model.config import products
from training.data.prepared_corpus import Prepared
from training.data.split import Split
from training.loop.finished_run import FinishedRun
from training.planning.plan import Plan
from training.report.card import in_words
from training.report.report import REPORT
from training.results import Results


def show_plan(console: Console, plan: Plan, prepared: Prepared, parts: Split, device: torch.device) -> None:
    """Print the plan and the corpus."""
    config, network = plan.config, plan.config.network
    budget = [f"{config.minutes:g} minutes"] if config.minutes else []
    budget += [f"{config.epochs:g} passes"] if config.epochs else []
    threads = f", {config.threads} threads" if config.threads > 1 else ", 1 thread"
    threads = threads if device.type == "cpu" else ""
    pace = f", about {plan.characters_per_second:,.0f} characters/s" if plan.characters_per_second else ""
    facts, tokenizer = prepared.facts, prepared.tokenizer
    names = ", ".join(Path(name).name for name in facts.names[:3]) + (" …" if len(facts.names) > 3 else "")
    sizes = " / ".join(f"{len(part):,}" for part in (parts.train, parts.validation, parts.test))
    lines = [
        f"corpus    {names}: {facts.characters:,} characters, {len(tokenizer.characters):,} different"
        f"{', prepared before' if prepared.reused else ''}",
        f"split     {parts.scheme}: {sizes} ids to train / validate / test",
        f"network   {network.layers} × {network.hidden} {network.cell.upper()}, embedding {network.embedding}, "
        f"{network.parameters():,} parameters",
        f"left out  {in_words(config.to_json())}",
        f"training  {config.batch_size} sequences × {config.sequence_length} characters, "
        f"rate {config.learning_rate:g}, {config.precision} on {device.type}{threads}",
        f"budget    at most {' or '.join(budget)}: {plan.passes:.1f} passes of {products(network) / 1e6:.2f} M "
        f"multiply-adds a character{pace}",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def show_outcome(console: Console, run: FinishedRun, results: Results, ended: str) -> None:
    """Print how the run ended, its figures, and the commands to use it. ended: in a few words."""
    console.print(f"{ended}: {run.step:,} steps, best at step {run.best_step:,}.", highlight=False)
    for part, score in results.figures.items():
        console.print(
            f"  {part}: {score.bits_per_character:.4f} bits, {score.nats_per_character:.4f} nats per character "
            f"({score.protocol})",
            highlight=False,
            soft_wrap=True,
        )
    best, folder = shlex.quote(str(run.folder / "best")), shlex.quote(str(run.folder))
    further = [f"Resume: unroll train --resume {folder}"] if run.stopped_early else []
    lines = [
        *results.notes,
        results.copied,
        f"Report: {run.folder / REPORT}",
        *further,
        f"Try:    unroll generate {best}",
        f"Serve:  unroll serve {best}",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
