"""A whole comparison of cells on one corpus: planned, done part by part, and left as tables, JSON and a page."""

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from model.command_line.console import TerminalConsole
from model.errors import ParameterError, TrainingError
from model.network import Network
from model.text.tokenizer import Tokenizer
from training.allocator import keep_buffers
from training.comparison.efficiency import efficiency
from training.comparison.language_run import language_run
from training.comparison.length_cost import length_cost
from training.comparison.memory_tasks import TASKS, learn_task, task_network
from training.comparison.options import CompareOptions
from training.comparison.parts import FOLDER, PLAN, Part, Parts, write
from training.comparison.plan import ComparisonPlan, make_plan
from training.comparison.sizes import Compared, alone, cell_of
from training.comparison.tables import sections
from training.comparison.use_of_past import use_of_past
from training.data.named_corpus import open_corpus
from training.data.prepared_corpus import count_ids
from training.data.split import Split, require_text, split
from training.planning.machine import machine
from training.report.comparison import Section, write_comparison
from training.row_threads import available_cores, side_by_side

JSON_FILE, PAGE = "compare.json", "compare.html"
WIDEST = 160  # columns of a table
UNTOLD = {"precision": "auto"}  # what was asked by an earlier version, which had no choice
COST_CURVES = 2  # forms of attention beside the cells, among which the time for costs is shared out


@dataclass(frozen=True)
class _Work:
    """A corpus cut into parts, and the plan. counts: how often each id occurs in the train part, (V,)."""

    plan: ComparisonPlan
    tokenizer: Tokenizer
    split: Split
    counts: NDArray[np.int64]


def compare_cells(options: CompareOptions, console: TerminalConsole) -> dict[str, Any]:
    """Do what is not done yet, write it all, and show the tables; the comparison as compare.json has it.

    Raises CorpusError where the corpus cannot be read, ParameterError where the folder holds another comparison,
    TrainingError where the disk refuses.
    """
    keep_buffers()
    torch.set_num_threads(1)
    corpus = open_corpus(options.names, options.encoding)
    text = "".join(corpus.blocks())
    require_text(len(text))  # before a vocabulary of nothing is refused in words that name no remedy
    tokenizer = Tokenizer.learn([text])
    ids = tokenizer.encode(text)
    cut = split(ids, options.split)
    counts = count_ids(cut.train, tokenizer.size)
    out = options.out or Path("runs") / f"compare-{Path(options.names[0]).resolve().name.split('.')[0] or 'corpus'}"
    asked = {
        "cells": list(options.cell_names),
        "minutes": options.minutes,
        "steps": options.steps,
        "seeds": options.seeds,
        "parameters": options.parameters,
        "precision": options.precision,
        "split": options.split,
        "sha256": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
    }
    plan = _plan(out, asked, partial(make_plan, options, cut, counts, console.say))
    name = Path(options.names[0]).name
    facts = {"corpus": name, "characters": len(text), "split": options.split, "machine": machine(torch.device("cpu"))}
    console.rows([("corpus", f"{name}: {len(text):,} characters, split {options.split}"), *plan.lines()])
    work = _Work(plan, tokenizer, cut, counts)
    jobs = list(_jobs(work))
    number = itertools.count(1)
    parts = Parts(out, lambda name, found: console.say(f"{next(number)}/{len(jobs)}  {name}{' (done before)' * found}"))
    _do(parts, jobs)
    done = {name: parts.done[name] for name, _, _ in jobs}
    written = {"asked": asked, **facts, "plan": plan.to_json(), "parts": done}
    write(out / JSON_FILE, written)
    written = cast("dict[str, Any]", json.loads((out / JSON_FILE).read_text("utf-8"))) | {"parts": done}
    shown = _sections(written, out)
    write_comparison(f"Cells compared on {name}", _words(written), shown, out / PAGE)
    _show(console, shown)
    console.say(f"The tables with their charts are in {out / PAGE}, all figures in {out / JSON_FILE}.")
    return written


def _sections(written: dict[str, Any], out: Path) -> list[Section]:
    """The tables. Raises TrainingError where a part found on disk has not the figures that this version writes."""
    try:
        return sections(written)
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise TrainingError(
            f"A part in {out / FOLDER} has other figures than this version of Unroll writes; remove {out}, or choose "
            "another --out."
        ) from error


def _plan(out: Path, asked: dict[str, Any], make: Callable[[], ComparisonPlan]) -> ComparisonPlan:
    """The plan that was made when the comparison began, or a new one."""
    path = out / PLAN
    if path.is_file():
        try:
            found = json.loads(path.read_text("utf-8"))
            before, plan = {**UNTOLD, **found["asked"]}, ComparisonPlan.from_json(found["plan"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} is damaged; remove {out}, or choose another --out.") from error
        if before != asked:
            differing = (name for name in asked if before.get(name) != asked[name])
            other = ", ".join(sorted("text" if name == "sha256" else name for name in differing))
            raise ParameterError(
                "out",
                f"{out} holds a comparison with other {other}; choose another --out, or remove that folder.",
            )
        return plan
    plan = make()
    write(path, {"asked": asked, "plan": plan.to_json()})
    return plan


Job = tuple[str, bool, Callable[[], Part]]
"""A part's name, whether others may be done at the same time, and how it is done."""


def _jobs(work: _Work) -> list[Job]:
    plan, validation = work.plan, work.split.validation
    cells = list(plan.networks)
    jobs: list[Job] = []

    def trained(cell: Compared, seed: int, **how: bool) -> Callable[[], Part]:
        measured = how.get("clipped", True) and not how.get("equal_time", False)
        past = partial(use_of_past, ids=validation, threads=plan.threads, places=plan.places)
        return lambda: language_run(
            plan.run(cell, seed, **how), work.split, work.counts, past if measured else _no_more
        )

    for seed in range(1, plan.seeds + 1):  # cells by turns, so that a busy hour meets all of them
        jobs += [(f"steps-{cell}-{seed}", False, trained(cell, seed)) for cell in cells]
        if plan.seconds is not None:
            jobs += [(f"time-{cell}-{seed}", False, trained(cell, seed, equal_time=True)) for cell in cells]
    jobs += [(f"unclipped-{cell}", False, trained(cell, 1, clipped=False)) for cell in cells]
    jobs += [
        (
            f"memory-{name}-{cell}",
            True,
            partial(learn_task, task_network(cell_of(cell), name, 1), cell_of(cell), name, plan.task_steps, 1),
        )
        for name in TASKS
        for cell in cells
        if alone(cell)  # attention points at characters, of which these tasks have none
    ]
    runs = {cell: plan.run(cell, 1) for cell in cells}
    half = plan.timed / 2
    each, unseen = half / (len(cells) + COST_CURVES), np.flatnonzero(work.counts == 0)
    jobs += [
        ("efficiency", False, partial(efficiency, runs, work.split, work.counts, work.tokenizer, half)),
        ("length", False, partial(length_cost, plan.networks, work.tokenizer, unseen, each)),
    ]
    return jobs


def _no_more(_: Network) -> Part:
    return {"figures": {}, "times": {}}


def _do(parts: Parts, jobs: list[Job]) -> None:
    for together, group in itertools.groupby(jobs, key=lambda job: job[1]):
        works = [partial(parts.part, name, make) for name, _, make in group]
        if together:
            side_by_side(works, available_cores())
        else:
            for one in works:
                one()


def _words(written: dict[str, Any]) -> str:
    plan = written["plan"]
    cells = ", ".join(plan["networks"])
    return (
        f"{cells}: networks of one layer and equal parameters, {plan['seeds']} seeds each, on {written['corpus']} "
        f"({written['characters']:,} characters, split {written['split']}); {written['machine']}."
    )


def _show(console: TerminalConsole, shown: list[Section]) -> None:
    """All tables, as wide as they are: a narrow terminal breaks their lines, no figure is cut."""
    wide = TerminalConsole(file=console.file, width=WIDEST)
    for section in shown:
        console.say(f"\n{section.title}", style="bold")
        for one in section.tables:
            console.say(f"\n{one.title}", style="italic")
            table = Table(box=None, pad_edge=False)
            for at, name in enumerate(one.head):
                table.add_column(name, justify="right" if at else "left", no_wrap=True)
            for row in one.rows:
                table.add_row(*row)
            wide.print(table)
