"""The training loop: read a window, step, watch the loss, now and then validate, sample and save."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model.checkpoint import Checkpoint, Precision, save
from model.decoder import Decoder
from model.errors import TrainingError
from model.generate import generate
from model.network import Network, State, detach, to_tensors
from model.sampling import SamplingParameters
from model.tokenizer import Ids, Tokenizer, count_characters
from training.batches import Lanes, Window
from training.config import TrainingConfig
from training.evaluate import Score, carried, network_reader
from training.schedule import Budget, rate
from training.split import Split

CHECKS = 20  # validations over a run at most, evenly spaced in its budget
CHECK_SHARE = 0.04  # of a budget in minutes that they may cost; where they would cost more they come less often
VALIDATED = (1 << 12, 1 << 16)  # ids of the validation part read at each check, at least and at most
VALIDATED_SHARE = 0.1  # of the ids read between two checks; reading without learning takes a third of the time
CHECK_LANES = 16
SAMPLED = 240  # characters of a sample

EXPLODED = 1.0  # nats by which the running loss may rise above its lowest before the run counts as lost


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a run looked like when it was last validated; a line of metrics.jsonl."""

    step: int
    characters: int
    seconds: float
    progress: float
    rate: float
    characters_per_second: float
    train_bits: float
    validation_bits: float
    sample: str


class Watcher(Protocol):
    """Told what happens in a run; shows it, writes it down, or does nothing."""

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:
        """After every step. train_bits: the running mean."""

    def checked(self, check: Check, best: bool) -> None:
        """After every validation. best: whether it was the lowest so far."""


@dataclass
class Outcome:
    """How a run ended.

    best_step, best_bits: of the checkpoint with the lowest validation figure in bits per character.
    stopped_early: by a signal, before the budget was used. began: time.monotonic() at its beginning.
    """

    checks: list[Check] = field(default_factory=list)
    best_step: int = 0
    best_bits: float = math.inf
    stopped_early: bool = False
    steps: int = 0
    characters: int = 0
    seconds: float = 0.0
    began: float = 0.0


class Trainer:
    """One run: a network, its optimiser, its lanes and its budget.

    folder: `best` and `last` below it are checkpoints, each written whole.
    started: time.monotonic() at which the budget in minutes began; finish: seconds of it kept for what comes after.
    """

    def __init__(
        self,
        config: TrainingConfig,
        tokenizer: Tokenizer,
        split: Split,
        folder: Path,
        watchers: Sequence[Watcher],
        *,
        device: torch.device,
        precision: Precision = "float32",
        started: float | None = None,
        finish: float = 0.0,
    ) -> None:
        self.config, self.tokenizer, self.split, self.folder, self.watchers = config, tokenizer, split, folder, watchers
        self.device, self.precision = device, precision
        self.started = time.monotonic() if started is None else started
        torch.manual_seed(config.seed)
        self.network = Network(config.network).to(device)
        counts = count_ids(split.train, tokenizer.size)
        self.unseen = np.flatnonzero(counts == 0)
        start_from_frequencies(self.network, counts)
        self.lanes = Lanes(split.train, config.lanes, config.length, config.seed)
        self.optimiser = make_optimiser(self.network, config)
        steps = None if config.epochs is None else math.ceil(config.epochs * self.lanes.windows_per_pass)
        seconds = None if config.minutes is None else max(1.0, config.minutes * 60 - finish)
        self.budget = Budget(steps, seconds)
        # Ids and characters differ where rare characters are spelt in bytes; progress bars speak of characters.
        self.characters_per_id = count_characters(split.train) / len(split.train)
        self.outcome = Outcome()
        self.validated = VALIDATED[0]
        self.stop = False
        """Set from a signal handler: the step in hand is the last."""

    def run(self) -> Outcome:
        """Train until the budget is used or `stop` is set; `best` and `last` are then on disk.

        Raises TrainingError when the loss is lost; the checkpoints saved before are kept.
        """
        outcome, loss_mean, lowest, state = self.outcome, math.nan, math.inf, None
        outcome.began = time.monotonic()
        begin = self.budget.progress(0, time.monotonic() - self.started)
        next_check = begin + (1 - begin) / CHECKS
        for step, window in enumerate(self.lanes.windows()):
            progress = self.budget.progress(step, time.monotonic() - self.started)
            if progress >= 1 or self.stop:
                outcome.stopped_early = progress < 1
                break
            for group in self.optimiser.param_groups:
                group["lr"] = rate(self.config.rate, step, progress)
            loss, state = self.step(window, None if window.fresh else state)
            loss_mean = loss if math.isnan(loss_mean) else 0.98 * loss_mean + 0.02 * loss
            lowest = min(lowest, loss_mean)
            self._guard(step, loss, loss_mean - lowest)
            outcome.steps, outcome.seconds = step + 1, time.monotonic() - outcome.began
            outcome.characters = int(outcome.steps * window.inputs.size * self.characters_per_id)
            speed = outcome.characters / outcome.seconds
            for watcher in self.watchers:
                watcher.stepped(step + 1, progress, speed, self._bits(loss_mean))
            if progress >= next_check:
                if not outcome.checks:
                    between = outcome.steps * window.inputs.size * (1 - begin) / CHECKS / (progress - begin)
                    self.validated = int(np.clip(between * VALIDATED_SHARE, *VALIDATED))
                spent = self._check(outcome, progress, loss_mean)
                next_check = self._next_check(progress, spent)
        if outcome.steps == 0:
            why = "was stopped" if outcome.stopped_early else "had used its budget"
            raise TrainingError(f"The run {why} before its first step, so there is nothing to save; give it more time.")
        if not outcome.checks or outcome.checks[-1].step < outcome.steps:
            self._check(outcome, min(1.0, progress), loss_mean)
        return outcome

    def _next_check(self, progress: float, spent: float) -> float:
        """The progress of the next check, put off in a budget of minutes when the last one took long."""
        grid = (math.floor(progress * CHECKS) + 1) / CHECKS
        if self.budget.seconds is None:  # steps alone decide, so that a run can be repeated
            return grid
        return max(grid, progress + spent / (CHECK_SHARE * self.budget.seconds))

    def step(self, window: Window, state: State | None) -> tuple[float, State]:
        """One window forward, back and down the gradient; the mean nats per id before it, and the next state."""
        inputs, targets = (torch.from_numpy(part).to(self.device) for part in (window.inputs, window.targets))
        bf16 = self.config.arithmetic == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16):
            logits, state = self.network(inputs, None if state is None else detach(state))
        # Flattened in the order the network computed them, (T, B, V): the other order would copy all logits.
        loss = F.cross_entropy(logits.transpose(0, 1).float().flatten(0, 1), targets.t().flatten())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
            return loss.item(), state
        return math.nan, state

    def _guard(self, step: int, loss: float, risen: float) -> None:
        """Stop a run that is lost, while the last good checkpoint is still the one on disk."""
        if math.isfinite(loss) and risen < EXPLODED:
            return
        what = "is not a number any more" if not math.isfinite(loss) else f"rose by {risen:.1f} nats"
        last = self.folder / "last"
        kept = f"{last} holds the last good state" if self.outcome.checks else "nothing had been saved yet"
        raise TrainingError(
            f"The training loss {what} at step {step + 1:,}; {kept}. "
            f"Train again with a lower --rate (it was {self.config.rate:g}) or a lower --clip ({self.config.clip:g})."
        )

    def _bits(self, nats_per_id: float) -> float:
        return nats_per_id / self.characters_per_id / math.log(2)

    def _check(self, outcome: Outcome, progress: float, loss_mean: float) -> float:
        """Validate, sample and save; the seconds it took."""
        start = time.monotonic()
        score = self.validate()
        self._guard(outcome.steps - 1, score.nats, 0.0)
        checkpoint = self.checkpoint({"step": outcome.steps, "validation": score.to_json()})
        check = Check(
            step=outcome.steps,
            characters=outcome.characters,
            seconds=round(outcome.seconds, 3),
            progress=round(progress, 4),
            rate=self.optimiser.param_groups[0]["lr"],
            characters_per_second=round(outcome.characters / max(outcome.seconds, 1e-9), 1),
            train_bits=round(self._bits(loss_mean), 4),
            validation_bits=round(score.bits_per_character, 4),
            sample=draw_sample(checkpoint),
        )
        outcome.checks.append(check)
        save(checkpoint, self.folder / "last", self.precision)
        if best := score.bits_per_character < outcome.best_bits:
            outcome.best_bits = score.bits_per_character
            outcome.best_step = outcome.steps
            save(checkpoint, self.folder / "best", self.precision)
        for watcher in self.watchers:
            watcher.checked(check, best)
        return time.monotonic() - start

    def validate(self) -> Score:
        """The score of the first `validated` ids of the validation part, quick rather than exact."""
        read = network_reader(self.network, bf16=self.config.arithmetic == "bf16")
        score = carried(read, self.split.validation[: self.validated], CHECK_LANES)
        return replace(score, protocol=f"{score.protocol}, network in {self.config.arithmetic}, a check in passing")

    def checkpoint(self, training: dict[str, Any]) -> Checkpoint:
        """The network as it is now."""
        return Checkpoint(
            config=self.config.network,
            tokenizer=self.tokenizer,
            tensors=to_tensors(self.network),
            unseen=self.unseen,
            training=training,
        )


def count_ids(ids: Ids, vocabulary: int) -> NDArray[np.int64]:
    """How often each id occurs, (V,); in blocks, as numpy widens each id to eight bytes to count it."""
    counts = np.zeros(vocabulary, np.int64)
    for start in range(0, len(ids), 1 << 20):
        counts += np.bincount(ids[start : start + (1 << 20)], minlength=vocabulary)
    return counts


def start_from_frequencies(network: Network, counts: NDArray[np.int64]) -> None:
    """Let an untrained network predict every id as often as it occurs, (V,), and ids that never occur hardly at all.

    Learning that first costs more than it seems: 256 byte ids that never come kept a pass over Shakespeare 0.1 nats
    behind. An id never seen also says nothing when it is read: its embedding is zero, and no gradient reaches it.
    """
    unseen = torch.from_numpy(counts == 0)
    with torch.no_grad():
        network.out.bias.copy_(torch.from_numpy(np.log((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))))
        network.out.weight[unseen] = 0
        network.embedding.weight[unseen] = 0


def make_optimiser(network: Network, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), its decay on matrices only: embeddings and biases are free."""
    decayed = [p for name, p in network.named_parameters() if p.dim() == 2 and not name.startswith("embedding")]
    free = [p for name, p in network.named_parameters() if p.dim() == 1 or name.startswith("embedding")]
    groups = [{"params": decayed, "weight_decay": config.decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.99), fused=True)


def draw_sample(checkpoint: Checkpoint, most: int = SAMPLED) -> str:
    """A short text from the model as it would be served."""
    pieces = generate(
        Decoder(checkpoint),
        checkpoint.tokenizer,
        "",
        max_tokens=most,
        parameters=SamplingParameters(temperature=0.8, seed=1),
    )
    return "".join(piece.text for piece in pieces)
