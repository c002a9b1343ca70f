"""One network learns a corpus for so many steps or seconds, and is measured: its bits, and how steady it was."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from model.cells.spec import CELLS
from model.config import NetworkConfig
from model.network import Network
from model.text.utf8_ids import Ids
from training.comparison.parts import Part
from training.data.batches import Batches
from training.data.split import Split
from training.evaluation.network_reader import network_distributions, network_reader
from training.evaluation.online_memory import Memories, fit_to, remembering
from training.evaluation.protocols import COLD_LENGTH, carried, cold
from training.loop.initial_weights import start_from_frequencies
from training.loop.learner import Learner
from training.loop.trainer import EXPLODED, LOWERED, ROLLED_BACK, SMOOTHED
from training.planning.config import TrainingConfig
from training.planning.regularisation import Regularisation
from training.planning.schedule import Budget, Schedule
from training.planning.train_options import Precision

CLIPPED_AT = 1.0  # norm of the gradient
UNCLIPPED = 1e9  # a norm that no step reaches
KEPT_EVERY = 100  # steps between two moments that a roll-back can return to
FITTED = 1 << 14  # ids of the validation part that the online memory's weights are fitted on


@dataclass(frozen=True)
class LanguageRun:
    """What one network is trained with. steps or seconds: its budget. clipped: whether gradients are.

    scored: ids of each held-out part that are scored at most. regularisation: none unless it is named.
    """

    network: NetworkConfig
    seed: int
    precision: Precision
    threads: int
    batch_size: int
    sequence_length: int
    scored: int
    steps: int | None = None
    seconds: float | None = None
    clipped: bool = True
    regularisation: Regularisation = field(default_factory=Regularisation)

    def config(self) -> TrainingConfig:
        """The plan of training: all cells' is the same, but for the learning rate, which is each cell's own."""
        return TrainingConfig(
            network=self.network,
            regularisation=self.regularisation,
            batch_size=self.batch_size,
            sequence_length=self.sequence_length,
            learning_rate=CELLS[self.network.cell].learning_rate,
            max_grad_norm=CLIPPED_AT if self.clipped else UNCLIPPED,
            seed=self.seed,
            precision=self.precision,
            threads=self.threads,
            epochs=1.0,
        )


class Steps:
    """The steps of a run: losses and norms as they come, and the way back where a run is lost."""

    def __init__(self, run: LanguageRun, train: Ids, counts: NDArray[np.int64]) -> None:
        config = run.config()
        torch.manual_seed(run.seed)
        self.learner = Learner(config, torch.device("cpu"))
        start_from_frequencies(self.learner.network, counts)
        self.batches = Batches(train, run.batch_size, run.sequence_length, run.seed)
        self.budget = Budget(None if run.steps is None else float(run.steps), run.seconds)
        self.schedule = Schedule(config.learning_rate, config.warmup_steps, config.decay)
        self.norms: list[float] = []
        self.step, self.factor, self.rolled_back, self.lost = 0, 1.0, 0, False
        self._loss: float | None = None
        self._lowest = math.inf
        self._good = self._moment()

    def run(self) -> float:
        """Learn until the budget is used, or the run is lost for good; the seconds it took."""
        began = time.perf_counter()
        while (progress := self.budget.progress(self.step, time.perf_counter() - began)) < 1 and not self.lost:
            rate = self.schedule.rate(self.step, progress) * self.factor
            learnt = self.learner.learn(self.batches.next(), rate)
            loss, norm = float(learnt.loss), float(learnt.norm)
            self.step += 1
            self.norms.append(norm)
            if not self._sound(loss, norm):
                self._roll_back()
            elif self.step % KEPT_EVERY == 0:
                self._good = self._moment()
        return time.perf_counter() - began

    def _sound(self, loss: float, norm: float) -> bool:
        """Whether the run is not lost, as a training run judges it."""
        if not math.isfinite(loss) or not math.isfinite(norm):
            return False
        self._loss = loss if self._loss is None else SMOOTHED * self._loss + (1 - SMOOTHED) * loss
        self._lowest = min(self._lowest, self._loss)
        return self._loss - self._lowest <= EXPLODED

    def _moment(self) -> tuple[object, ...]:
        return self.learner.tensors(), self.batches.position(), self.step, self._loss

    def _roll_back(self) -> None:
        tensors, position, self.step, self._loss = self._good  # type: ignore[assignment]
        self.learner.restore(tensors, 0)  # type: ignore[arg-type]
        self.batches.go_to(position)  # type: ignore[arg-type]
        self._lowest = math.inf
        self.rolled_back += 1
        self.factor *= LOWERED
        self.lost = self.rolled_back > ROLLED_BACK


def language_run(run: LanguageRun, parts: Split, counts: NDArray[np.int64], then: Callable[[Network], Part]) -> Part:
    """Train and measure. counts: how often each id occurs in the train part, (V,). then: further figures of it."""
    steps = Steps(run, parts.train, counts)
    seconds = steps.run()
    network = steps.learner.network
    norms = np.array([norm for norm in steps.norms if math.isfinite(norm)] or [math.nan])
    further = then(network)
    figures = {
        "bits": bits_of(network, parts, run.threads, run.scored),
        "stability": {
            "median_norm": float(np.median(norms)),
            "norm_99": float(np.percentile(norms, 99)),
            "largest_norm": float(norms.max()),
            "clipped": int(np.count_nonzero(norms > CLIPPED_AT)) if run.clipped else 0,
            "steps": len(steps.norms),
            "roll_backs": min(steps.rolled_back, ROLLED_BACK),
            "lost": steps.lost,
        },
        **further["figures"],
    }
    speed = len(steps.norms) * run.batch_size * run.sequence_length / max(seconds, 1e-9)
    return {"figures": figures, "times": {"seconds": seconds, "characters_per_second": speed, **further["times"]}}


def bits_of(network: Network, parts: Split, threads: int, scored: int) -> dict[str, float]:
    """Bits per character of the held-out parts: state carried, in cold windows, and carried with the online memory."""
    read, distribute = network_reader(network, threads=threads), network_distributions(network, threads)
    weights = fit_to(distribute, parts.validation[: min(scored, FITTED)])
    found = {}
    for name, ids in (("validation", parts.validation[:scored]), ("test", parts.test[:scored])):
        if len(ids) > 1:
            found[f"{name}_carried"] = carried(read, ids).bits_per_character
            found[f"{name}_cold"] = cold(read, ids, max(1, scored // COLD_LENGTH)).bits_per_character
            if weights is not None:
                remembered = carried(remembering(distribute, Memories(weights)), ids)
                found[f"{name}_memory"] = remembered.bits_per_character
    return found
