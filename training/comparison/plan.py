"""The plan of a comparison: networks of equal parameters, and how much each part of it may take."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.cells.spec import Cell
from model.config import NetworkConfig
from model.errors import ParameterError
from training.comparison.language_run import LanguageRun, Steps
from training.comparison.memory_tasks import DELAYS, PARAMETERS, SHARES, TASKS, learn_task, steps_at, task_network
from training.comparison.options import MINUTES, CompareOptions
from training.comparison.sizes import Compared, alone, cell_of, equal_networks
from training.comparison.use_of_past import ROWS
from training.data.split import Split
from training.planning.machine import check_precision, faster_precision
from training.planning.train_options import Precision
from training.row_threads import available_cores, default_threads

BATCH, SEQUENCE = 32, 64
TRAINED, REMEMBERED, TIMED = 0.55, 0.25, 0.1  # of the minutes; the rest measures what was trained
PROBED = 6  # steps of each cell from which its speed is known
TASK_STEPS = (1, 400)  # of memory tasks, at least and at most
SECONDS_A_STEP = 0.1  # that speeds are measured for, for each of --steps
MOST_TIMED = 120.0
SCORED, PLACES = 1 << 16, 512  # ids of a part that are scored, and places that contexts of all lengths are read for


@dataclass(frozen=True)
class ComparisonPlan:
    """What is done.

    steps: of each network for the equal steps. seconds: of each for the equal time; None leaves that table out.
    task_steps: of the memory tasks, times the share of each delay. timed: seconds of all measuring of speeds.
    scored, places: ids of each held-out part that are scored, and places at which contexts of all lengths are read.
    """

    networks: Mapping[Compared, NetworkConfig]
    seeds: int
    batch_size: int
    sequence_length: int
    precision: Precision
    threads: int
    steps: int
    seconds: float | None
    task_steps: int
    timed: float
    scored: int
    places: int

    def run(self, cell: Compared, seed: int, *, equal_time: bool = False, clipped: bool = True) -> LanguageRun:
        """One network's training."""
        return LanguageRun(
            self.networks[cell],
            seed,
            self.precision,
            self.threads,
            self.batch_size,
            self.sequence_length,
            self.scored,
            steps=None if equal_time else self.steps,
            seconds=self.seconds if equal_time else None,
            clipped=clipped,
        )

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "networks"}
        sizes = {
            cell: {**network.to_json(), "parameters": network.parameters()} for cell, network in self.networks.items()
        }
        return {"networks": sizes, **values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ComparisonPlan":
        """Read what `to_json` wrote."""
        sizes = {
            cell: NetworkConfig.from_json({name: value for name, value in one.items() if name != "parameters"})
            for cell, one in values["networks"].items()
        }
        return cls(**{**values, "networks": sizes})

    def lines(self) -> list[tuple[str, str]]:
        """The plan in words, a name and what stands for it a line."""
        sizes = [f"{cell} 1 × {one.hidden}, {one.parameters():,} parameters" for cell, one in self.networks.items()]
        seeds = f"{self.seeds} seeds" if self.seeds > 1 else "one seed"
        equal_time = "left out: --steps has no time" if self.seconds is None else f"{self.seconds:.1f} seconds, {seeds}"
        shares = ", ".join(f"{steps_at(delay, self.task_steps):,} at {delay}" for delay in DELAYS)
        per_step = f"{self.batch_size} sequences × {self.sequence_length} characters"
        return [
            ("networks", "; ".join(sizes)),
            ("steps", f"{per_step}, {self.precision}, {self.threads} threads; each cell's own learning rate"),
            ("equal steps", f"{self.steps:,} steps, {seeds}; once more without clipping, one seed"),
            ("equal time", equal_time),
            ("measured", f"{self.scored:,} ids of validation and test; {self.places} places by length of context"),
            ("memory", f"{', '.join(TASKS)} with {PARAMETERS:,} parameters, one seed; steps: {shares}"),
            ("costs", f"speeds, memory and cost by length, in about {self.timed:.0f} seconds"),
        ]


def make_plan(
    options: CompareOptions, parts: Split, counts: NDArray[np.int64], told: Callable[[str], None]
) -> ComparisonPlan:
    """The plan of what was asked. With a budget in minutes the speed of each cell is measured, in some seconds.

    Raises ParameterError where the train part is too short to be read in windows, or a cell cannot be trained here in
    the precision that was asked for.
    """
    batch = max(1, min(BATCH, len(parts.train) // (4 * SEQUENCE)))
    budget = 60 * (options.minutes or MINUTES)
    timed = min(MOST_TIMED, SECONDS_A_STEP * options.steps if options.steps else TIMED * budget)

    share = min(1.0, options.steps / 500 if options.steps else budget / (60 * MINUTES))  # of all there is to measure
    plan = ComparisonPlan(
        networks=equal_networks(options.cell_names, options.parameters, len(counts)),
        seeds=options.seeds,
        batch_size=batch,
        sequence_length=min(SEQUENCE, len(parts.train) // batch // 2),
        precision=_precision(options),
        threads=default_threads(batch),
        steps=options.steps or 1,
        seconds=None,
        task_steps=min(TASK_STEPS[1], max(TASK_STEPS[0], (options.steps or 0) // 5)),
        timed=timed,
        scored=max(2_048, int(SCORED * share)),
        places=max(ROWS, int(PLACES * share)),
    )
    if options.steps is not None:
        return plan
    told("Measuring the speed of each cell …")
    seconds = TRAINED * budget / (len(plan.networks) * (2 * options.seeds + 1))
    slowest = max(_seconds_a_step(plan.run(cell, 1), parts, counts) for cell in plan.networks)
    a_task_step = sum(
        _seconds_a_task_step(cell_of(cell), name) for cell in plan.networks if alone(cell) for name in TASKS
    )
    task_steps = int(REMEMBERED * budget * available_cores() / (a_task_step or 1))
    return replace(
        plan,
        steps=max(1, int(seconds / slowest)),
        seconds=round(seconds, 3),
        task_steps=min(TASK_STEPS[1], max(TASK_STEPS[0], task_steps)),
    )


def _precision(options: CompareOptions) -> Precision:
    """The one that was asked for; or the faster one of those in which every cell can be trained here."""
    device = torch.device("cpu")
    precision = faster_precision(device) if options.precision == "auto" else options.precision
    try:
        for cell in options.cell_names:
            check_precision(cell_of(cell), precision, device)
    except ParameterError:
        if options.precision != "auto":
            raise
        return "fp32"
    return precision


def _seconds_a_step(run: LanguageRun, parts: Split, counts: NDArray[np.int64]) -> float:
    """The median of some steps' times, after a first that finds caches cold."""
    steps, took = Steps(run, parts.train, counts), []
    for _ in range(PROBED + 1):
        begun = time.perf_counter()
        steps.learner.learn(steps.batches.next(), 1e-4)
        took.append(time.perf_counter() - begun)
    return float(np.median(took[1:]))


def _seconds_a_task_step(cell: Cell, name: str) -> float:
    """Seconds that a memory task takes at all delays for each step of the plan, from one at each."""
    network = task_network(cell, name, 1)
    begun = time.perf_counter()
    learn_task(network, cell, name, 0, 1)
    # One step and one judgement of eight times the rows were taken at each delay: about three steps of each.
    every = (time.perf_counter() - begun) / (3 * sum(DELAYS))
    return sum(SHARES[delay] * delay * every for delay in DELAYS)
