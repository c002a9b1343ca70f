"""The training loop: read a window, step, watch the loss, now and then validate, sample and save."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import Checkpoint, save
from model.checkpoint.checkpoint import Precision
from model.errors import CheckpointError, TrainingError
from model.network import Network, to_tensors
from model.text.tokenizer import Tokenizer
from training.data.batches import Lanes
from training.data.prepared_corpus import count_ids, spelt
from training.data.split import Split
from training.evaluation.protocols import carried
from training.evaluation.readers import network_reader
from training.evaluation.score import Score
from training.loop.initial_weights import Beginning
from training.loop.learner import Learner
from training.loop.loss_reader import LossReader
from training.loop.run_state import CHECKED, FOLDER, LATEST, Saved, Standing
from training.loop.samples import draw_samples
from training.monitoring.watcher import Check, Watcher
from training.planning.config import TrainingConfig
from training.planning.schedule import Budget, Schedule

CHECKS = 20  # validations over a run at most, evenly spaced in its budget
CHECK_SHARE = 0.025  # of a budget in minutes that they may cost; where they would cost more they come less often
VALIDATED = (1 << 12, 1 << 16)  # ids of the validation part read at each check, at least and at most
VALIDATED_SHARE = 0.1  # of the ids read between two checks; reading without learning takes a third of the time
CHECK_LANES = 16
SMOOTHED = 0.98  # of a running mean that stays at each step
EXPLODED = 1.0  # nats by which the running loss may rise above its lowest before the run counts as lost
ROLLED_BACK = 3  # times at most
LOWERED = 0.5  # the rate after a roll-back, as a share of the one before

SAVED_EVERY = 60.0  # seconds between two savings of the state at most: what a killed run has to do again


class Lost(Exception):
    """The loss is no number any more, or far above what it was; the text says which."""


class Trainer:
    """One run: a learner, its lanes, its budget and where it stands.

    folder: `best` and `last` below it are checkpoints, `resume` what training goes on from; each is written whole.
    beginning: the weights before the first step, and the ids that never occurred.
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
        beginning: Beginning | None = None,
    ) -> None:
        self.config, self.tokenizer, self.split, self.folder, self.watchers = config, tokenizer, split, folder, watchers
        self.device, self.precision = device, precision
        self.started = time.monotonic() if started is None else started
        torch.manual_seed(config.seed)
        self.learner = Learner(config, device)
        beginning = beginning or Beginning(count_ids(split.train, tokenizer.size))
        self.unseen = beginning.put_into(self.learner.network)
        self.lanes = Lanes(split.train, config.lanes, config.length, config.seed, config.jitter)
        ids = None if config.epochs is None else max(1.0, config.epochs * self.lanes.ids_per_pass)
        seconds = None if config.minutes is None else max(1.0, config.minutes * 60 - finish)
        self.budget = Budget(ids, seconds)
        self.schedule = Schedule(config.rate, config.warm_up, config.decay)
        self.standing = Standing()
        self.losses = LossReader(device)
        # Ids and characters differ where rare characters are spelt in bytes; progress bars speak of characters.
        self.characters_per_id = spelt(beginning.counts) / len(split.train)
        self.good = self.moment()
        self.stopped_early = False
        self.unsaved: dict[str, Checkpoint] = {}
        """Checkpoints the disk refused, by name; written again with the next."""
        self.stop = False
        """Set from a signal handler: the step in hand is the last."""

    def run(self) -> Standing:
        """Train until the budget is used, `stop` is set or nothing gets better; `best` and `last` are then on disk.

        Raises TrainingError when the loss is lost again and again, or when the disk refused to the end; what was saved
        before is kept.
        """
        began, saved_at, progress = time.monotonic() - self.standing.seconds, time.monotonic(), 0.0
        while not self.stop and not self._stale():
            progress = self.budget.progress(self.standing.ids, self.elapsed())
            if self.standing.next_check is None:
                self.standing.next_check = progress + (1 - progress) / CHECKS
            if progress >= 1:
                break
            try:
                self._step(progress)
                self.standing.seconds = time.monotonic() - began
                progress = self.budget.progress(self.standing.ids, self.elapsed())
                if self.standing.next_check <= progress < 1:
                    self._check(progress)
                    saved_at = time.monotonic()
            except Lost as lost:
                self._roll_back(str(lost))
            if time.monotonic() - saved_at > SAVED_EVERY:
                self._save_state(LATEST)
                saved_at = time.monotonic()
        self._end(progress)
        return self.standing

    def elapsed(self) -> float:
        """Seconds of the budget used, those before a resumption included."""
        return time.monotonic() - self.started

    def _stale(self) -> bool:
        return 0 < self.config.patience <= self.standing.stale

    def _step(self, progress: float) -> None:
        """Read a window and learn from it."""
        standing, learner = self.standing, self.learner
        window = self.lanes.next()
        rate = self.schedule.rate(standing.step, progress) * standing.rate_factor
        known = self.losses.put(*learner.learn(window, rate))
        if self.config.average and progress >= 1 - self.config.average:
            learner.add_to_average()
        standing.step += 1
        standing.ids += window.inputs.size
        for loss, norm in known:
            self._note(loss, norm)
        for watcher in self.watchers:
            watcher.stepped(standing.step, progress, self._speed(), self._bits(standing.loss))

    def _note(self, loss: float, norm: float) -> None:
        """Let a step's loss count in the running means. Raises Lost where it shows that the run is lost."""
        standing = self.standing
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise Lost("is not a number any more")
        standing.loss = loss if standing.loss is None else SMOOTHED * standing.loss + (1 - SMOOTHED) * loss
        standing.norm = norm if standing.norm is None else SMOOTHED * standing.norm + (1 - SMOOTHED) * norm
        standing.lowest = standing.loss if standing.lowest is None else min(standing.lowest, standing.loss)
        if (risen := standing.loss - standing.lowest) > EXPLODED:
            raise Lost(f"rose by {risen:.1f} nats")

    def _roll_back(self, what: str) -> None:
        """Go back to the last good moment with a lower rate. Raises TrainingError when that was done too often."""
        lost = self.standing
        where = f"The training loss {what} at step {lost.step:,}"
        if lost.rolled_back == ROLLED_BACK:
            last = self.folder / "last"
            kept = f"{last} holds the last good state" if lost.checks else "nothing had been saved yet"
            raise TrainingError(
                f"{where}, after {ROLLED_BACK} roll-backs; {kept}. Train again with a lower --learning-rate (it was "
                f"{self.config.rate:g}) or a lower --max-grad-norm ({self.config.clip:g})."
            )
        self.go_to(self.good)
        standing = self.standing
        standing.rolled_back = lost.rolled_back + 1
        standing.rate_factor = lost.rate_factor * LOWERED
        standing.seconds, standing.notes = lost.seconds, lost.notes
        self.tell(
            f"{where}; went back to step {standing.step:,}, and on from there with {standing.rate_factor:g} of the "
            "learning rate."
        )

    def tell(self, note: str) -> None:
        """Keep a sentence for the report, and show it."""
        self.standing.notes.append(note)
        for watcher in self.watchers:
            watcher.told(note)

    def moment(self) -> Saved:
        """Everything as it is between two steps."""
        standing = replace(
            self.standing, elapsed=self.elapsed(), place=self.lanes.place(), averaged=self.learner.averaged
        )
        return Saved(standing.to_json(), self.learner.tensors())

    def go_to(self, moment: Saved, keep_time: bool = True) -> None:
        """Put everything back as it was. keep_time: whether the seconds since then stay used."""
        self.losses.forget()
        self.standing = Standing.from_json(moment.standing)
        self.learner.restore(moment.tensors, self.standing.averaged)
        self.lanes.go_to(self.standing.place)
        if not keep_time:
            self.started = time.monotonic() - self.standing.elapsed

    def resume(self, newest: Saved, good: Saved) -> None:
        """Go on from a moment that was saved; `good` is what a roll-back returns to."""
        self.go_to(newest, keep_time=False)
        self.good = good

    def _speed(self) -> float:
        return self.characters() / max(self.standing.seconds, 1e-9)

    def characters(self) -> int:
        """How many characters were read."""
        return int(self.standing.ids * self.characters_per_id)

    def _bits(self, nats_per_id: float | None) -> float:
        return math.nan if nats_per_id is None else nats_per_id / self.characters_per_id / math.log(2)

    def _check(self, progress: float, last: bool = False) -> None:
        """Validate, sample and save. Raises Lost where the network is.

        last: nothing comes after it. What a resumed run goes on from is then already saved, and this check is no part
        of it: it takes the place of an earlier best only where the run is complete.
        """
        start, standing = time.monotonic(), self.standing
        for loss, norm in self.losses.drain():
            self._note(loss, norm)
        if not standing.validated:  # the first check fixes it for all, from what was read until then
            standing.validated = int(min(max(standing.ids * VALIDATED_SHARE, VALIDATED[0]), VALIDATED[1]))
        with self.learner.best_weights() as network:
            score = self.validate(network)
            if not math.isfinite(score.nats):
                raise Lost("is not a number any more")
            checkpoint = self.checkpoint(network, {"step": standing.step, "validation": score.to_json()})
        check = self._describe(progress, score, draw_samples(checkpoint))
        standing.checks.append(check)
        best = standing.best_bits is None or (score.bits_per_character < standing.best_bits and not self.stopped_early)
        standing.stale = 0 if best else standing.stale + 1
        if best:
            standing.best_bits, standing.best_step = score.bits_per_character, standing.step
        standing.next_check = self._next_check(progress, time.monotonic() - start)
        self.unsaved |= {"last": checkpoint, "best": checkpoint} if best else {"last": checkpoint}
        self._save_checkpoints()
        if not last:
            self.good = self.moment()
            self._save_state(CHECKED)
        for watcher in self.watchers:
            watcher.checked(check, best)

    def _next_check(self, progress: float, spent: float) -> float:
        """The progress of the next check, put off in a budget of minutes when the last one took long."""
        grid = (math.floor(progress * CHECKS + 1e-9) + 1) / CHECKS
        if self.budget.seconds is None:  # ids alone decide, so that a run can be repeated
            return grid
        return max(grid, progress + spent / (CHECK_SHARE * self.budget.seconds))

    def _describe(self, progress: float, score: Score, samples: dict[str, str]) -> Check:
        standing = self.standing
        return Check(
            step=standing.step,
            characters=self.characters(),
            seconds=round(standing.seconds, 3),
            progress=round(progress, 4),
            rate=self.learner.optimiser.param_groups[0]["lr"],
            characters_per_second=round(self._speed(), 1),
            train_bits=round(self._bits(standing.loss), 4),
            validation_bits=round(score.bits_per_character, 4),
            gradient_norm=round(standing.norm or 0.0, 4),
            samples=samples,
        )

    def _save_checkpoints(self) -> None:
        """Write what waits to be written; what the disk refuses waits on."""
        for name, checkpoint in list(self.unsaved.items()):
            try:
                save(checkpoint, self.folder / name, self.precision)
                del self.unsaved[name]
            except CheckpointError as error:
                self.tell(str(error))

    def _save_state(self, name: str) -> None:
        """Write what training goes on from; where the disk refuses, say so and keep what is there."""
        try:
            self.moment().write(self.folder / FOLDER / name)
        except TrainingError as error:
            self.tell(str(error))

    def _end(self, progress: float) -> None:
        """Save where the run stands, then judge it a last time.

        Raises TrainingError when nothing was trained, or when the disk refuses to the end.
        """
        standing = self.standing
        self.stopped_early = self.stop and progress < 1
        if standing.step == 0:
            why = "was stopped" if self.stopped_early else "had used its budget"
            raise TrainingError(f"The run {why} before its first step, so there is nothing to save; give it more time.")
        self._save_state(LATEST)
        if not standing.checks or standing.checks[-1].step < standing.step:
            try:
                self._check(min(1.0, progress), last=True)
            except Lost as lost:
                self.tell(f"The training loss {lost} at the last step, {standing.step:,}; that state is not kept.")
        self._save_checkpoints()
        if self.unsaved:
            raise TrainingError(
                f"The disk refused {' and '.join(sorted(self.unsaved))} of {self.folder} to the end; make room and go "
                f"on with `unroll train --resume {self.folder}`."
            )

    def validate(self, network: Network) -> Score:
        """The score of the first `validated` ids of the validation part, quick rather than exact."""
        read = network_reader(network, bf16=self.config.arithmetic == "bf16")
        score = carried(read, self.split.validation[: self.standing.validated], CHECK_LANES)
        return replace(score, protocol=f"{score.protocol}, network in {self.config.arithmetic}, a check in passing")

    def checkpoint(self, network: Network, training: dict[str, Any]) -> Checkpoint:
        """The network as it is now."""
        return Checkpoint(
            config=self.config.network,
            tokenizer=self.tokenizer,
            tensors=to_tensors(network),
            unseen=self.unseen,
            training=training,
        )
