"""The training loop: read a window, make a step, check the loss; at intervals validate, sample and save."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import Checkpoint, save
from model.command_line.terminal import shell_word
from model.config import WeightsDtype
from model.errors import CheckpointError, TrainingError
from model.network import Network, to_tensors
from model.text.tokenizer import Tokenizer
from training.data.batches import Taught
from training.data.prepared_corpus import count_ids, spelt
from training.data.split import Split
from training.distributed.ranks import ALONE, Ranks
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import alone_in_pieces, carried_in_pieces
from training.evaluation.score import Score
from training.evaluation.sharing import measured
from training.items.batches import batches_of
from training.loop.finished_run import FinishedRun
from training.loop.initial_weights import InitialWeights
from training.loop.learner import Learner
from training.loop.loss_queue import LossQueue
from training.loop.run_state import CHECKED, FOLDER, LATEST, RunState, Saved
from training.loop.samples import draw_samples
from training.monitoring.watcher import Validation, Watcher
from training.planning.config import TrainingConfig
from training.planning.schedule import Budget, Schedule

VALIDATIONS = 20  # validations over a run at most, evenly spaced in its budget
VALIDATION_SHARE = 0.025  # of a budget in minutes, for validations; if they would take more they come less often
VALIDATED = (1 << 12, 1 << 16)  # the fewest and the most ids of the validation part for each validation
VALIDATED_SHARE = 0.1  # of the ids between two validations; reading without learning takes a third of the time
VALIDATION_BATCH = 16
SMOOTHED = 0.98  # of a running mean, kept at each step
EXPLODED = 1.0  # nats: a run whose running loss rises further above its lowest is lost
ROLLED_BACK = 3  # times at most
LOWERED = 0.5  # the rate after a roll-back, as a share of the rate before

ENOUGH = 3  # times the seconds before the first step: with so much time a run makes steps, and keeps half for its end
SAVED_EVERY = 60.0  # the most seconds between two saved states: the work that a killed run must repeat


class Lost(Exception):
    """The loss is not finite, or far above its lowest; the message says which."""


class NothingTrained(TrainingError):
    """A run ended before its first step."""


class Trainer:
    """One run: a learner, its batches, its budget and its state.

    folder: `best` and `last` in it are checkpoints, `resume` has the state to resume from; each is written whole.
    initial_weights: the weights before the first step, and the ids that never occurred.
    taught: the teachers' distributions.
    started: time.monotonic() at the start of the budget in minutes; finish: seconds of it reserved for the results.
    ranks: the processes that train together. Each has a trainer; all of these make the same decisions, by the clock
    of the first. Only the first writes and has watchers.
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
        dtype: WeightsDtype = "float32",
        started: float | None = None,
        finish: float = 0.0,
        initial_weights: InitialWeights | None = None,
        ranks: Ranks = ALONE,
        taught: Taught | None = None,
    ) -> None:
        self.config, self.tokenizer, self.split, self.folder, self.watchers = config, tokenizer, split, folder, watchers
        self.device, self.dtype, self.ranks = device, dtype, ranks
        self.started = time.monotonic() if started is None else started
        torch.manual_seed(config.seed)
        self.learner = Learner(config, device, ranks)
        initial_weights = initial_weights or InitialWeights(count_ids(split.train, tokenizer.size))
        self.unseen = initial_weights.put_into(self.learner.network)
        length = config.sequence_length
        self.batches = batches_of(split, config.batch_size, length, config.seed, config.jitter, taught)
        ids = None if config.epochs is None else max(1.0, config.epochs * self.batches.ids_per_pass)
        seconds = None if config.minutes is None else max(1.0, config.minutes * 60 - finish)
        self.budget = Budget(ids, seconds)
        self.schedule = Schedule(config.learning_rate, config.warmup_steps, config.decay)
        self.state = RunState()
        self.losses = LossQueue(device)
        # Ids and characters differ if rare characters are written as bytes; progress bars count characters.
        self.characters_per_id = spelt(initial_weights.counts) / len(split.train)
        self._agreed, self._all_stop = (
            0.0,
            False,
        )  # at the last step: the first one's clock, and whether one was to stop
        self.good = self.moment()
        self.stopped_early = False
        self.unsaved: dict[str, Checkpoint] = {}
        """Names of checkpoints that the disk refused; they are written again with the next ones."""
        self.stop = False
        """Set from a signal handler, in one process or in all: the current step is the last."""

    def run(self) -> FinishedRun:
        """Train until the budget is used, `stop` is set or validation no longer improves; `best` and `last` are then
        on disk.

        Raises TrainingError if the loss is lost again and again, or if the disk refuses to the end; saved files stay.
        """
        self._agreed = self.ranks.of_first(lambda: time.monotonic() - self.started)
        began, saved_at, progress = time.monotonic() - self.state.seconds, self.elapsed(), 0.0
        while not self._stopped() and not self._stale():
            progress = self.budget.progress(self.state.ids, self.elapsed())
            if self.state.next_validation is None:
                self.state.next_validation = progress + (1 - progress) / VALIDATIONS
            if progress >= 1:
                break
            try:
                self._step(progress)
                self.state.seconds = time.monotonic() - began
                progress = self.budget.progress(self.state.ids, self.elapsed())
                if self.state.next_validation <= progress < 1:
                    self._validate(progress)
                    saved_at = self.elapsed()
            except Lost as lost:
                self._roll_back(str(lost))
            if self.elapsed() - saved_at > SAVED_EVERY:
                self._save_state(LATEST)
                saved_at = self.elapsed()
        self._end(progress)
        return self.finished()

    def finished(self) -> FinishedRun:
        """The run as it is now; nothing changes it afterwards."""
        state = self.state
        return FinishedRun(
            folder=self.folder,
            config=self.config,
            split=self.split,
            device=self.device,
            dtype=self.dtype,
            step=state.step,
            best_step=state.best_step,
            validations=tuple(state.validations),
            elapsed=self.elapsed(),
            seconds=state.seconds,
            stale=state.stale,
            stopped_early=self.stopped_early,
            notes=tuple(state.notes),
            processes=self.ranks.here,
        )

    def elapsed(self) -> float:
        """The used seconds of the budget, including those before a resumption."""
        return time.monotonic() - self.started if self.ranks.count == 1 else self._agreed

    def _stopped(self) -> bool:
        """Whether the run is to stop, as all processes agreed at the last step."""
        return self.stop if self.ranks.count == 1 else self._all_stop

    def seconds_left(self) -> float | None:
        """The seconds of the budget; one in minutes counts from the first second."""
        state = self.state
        return self.budget.seconds_left(state.ids, self.elapsed(), state.ids / max(state.seconds, 1e-9))

    def _stale(self) -> bool:
        return 0 < self.config.patience <= self.state.stale

    def _step(self, progress: float) -> None:
        """Read a window, or several, and learn from them."""
        state, learner = self.state, self.learner
        window, *more = [self.batches.next() for _ in range(self.config.accumulate)]
        rate = self.schedule.rate(state.step, progress) * state.rate_factor
        seconds = time.monotonic() - self.started if self.ranks.first else 0.0
        learnt = learner.learn(window, rate, more=more, asides=(seconds, float(self.stop)))
        self._agreed, self._all_stop = learnt.asides[0], learnt.asides[1] > 0
        known = self.losses.put(learnt.loss, learnt.norm)
        if self.config.average and progress >= 1 - self.config.average:
            learner.add_to_average()
        state.rate = learner.optimiser.param_groups[0]["lr"]
        state.step += 1
        state.ids += sum(one.ids for one in (window, *more))
        for loss, norm in known:
            self._note(loss, norm)
        for watcher in self.watchers:
            watcher.stepped(state.step, progress, self.speed(), self._bits(state.loss))

    def _note(self, loss: float, norm: float) -> None:
        """Add a step's loss to the running means. Raises Lost if it shows that the run is lost."""
        state = self.state
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise Lost("is not a number any more")
        state.loss = loss if state.loss is None else SMOOTHED * state.loss + (1 - SMOOTHED) * loss
        state.norm = norm if state.norm is None else SMOOTHED * state.norm + (1 - SMOOTHED) * norm
        state.lowest = state.loss if state.lowest is None else min(state.lowest, state.loss)
        if (risen := state.loss - state.lowest) > EXPLODED:
            raise Lost(f"rose by {risen:.1f} nats")

    def _roll_back(self, what: str) -> None:
        """Go back to the last good moment with a lower rate. Raises TrainingError if that was done too often."""
        lost = self.state
        where = f"The training loss {what} at step {lost.step:,}"
        if lost.rolled_back == ROLLED_BACK:
            last = self.folder / "last"
            kept = f"{last} holds the last good state" if lost.validations else "nothing was saved before"
            raise TrainingError(
                f"{where}, after {ROLLED_BACK} roll-backs; {kept}. Train again with a lower --learning-rate (it was "
                f"{self.config.learning_rate:g}) or a lower --max-grad-norm ({self.config.max_grad_norm:g})."
            )
        self.go_to(self.good)
        state = self.state
        state.rolled_back = lost.rolled_back + 1
        state.rate_factor = lost.rate_factor * LOWERED
        state.seconds, state.notes = lost.seconds, lost.notes
        self.tell(
            f"{where}; the run went back to step {state.step:,} and continued with {state.rate_factor:g} of the "
            "learning rate."
        )

    def tell(self, note: str) -> None:
        """Save a sentence for the report, and show it."""
        self.state.notes.append(note)
        self.show(note)

    def show(self, note: str) -> None:
        """Show a sentence that the report does not need."""
        for watcher in self.watchers:
            watcher.told(note)

    def moment(self) -> Saved:
        """The complete state between two steps."""
        state = replace(
            self.state, elapsed=self.elapsed(), position=self.batches.position(), averaged=self.learner.averaged
        )
        return Saved(state.to_json(), self.learner.tensors())

    def go_to(self, moment: Saved, keep_time: bool = True) -> None:
        """Restore a complete state. keep_time: whether the seconds since then count as used."""
        self.losses.forget()
        self.state = RunState.from_json(moment.state)
        self.learner.restore(moment.tensors, self.state.averaged)
        self.batches.go_to(self.state.position)
        if not keep_time:
            self.started = time.monotonic() - self.state.elapsed

    def resume(self, newest: Saved, good: Saved) -> None:
        """Continue from a saved moment; a roll-back returns to `good`."""
        self.go_to(newest, keep_time=False)
        self.good = good

    def stand_at_end(self, state: RunState) -> FinishedRun:
        """The run that ended in that state; it is not trained further."""
        self.state = state
        return replace(self.finished(), elapsed=state.elapsed)

    def speed(self) -> float:
        """Characters per second over the whole run."""
        return self.characters() / max(self.state.seconds, 1e-9)

    def characters(self) -> int:
        """The number of characters that were read."""
        return int(self.state.ids * self.characters_per_id)

    def _bits(self, nats_per_id: float | None) -> float:
        return math.nan if nats_per_id is None else nats_per_id / self.characters_per_id / math.log(2)

    def _validate(self, progress: float, last: bool = False) -> None:
        """Validate, sample and save. Raises Lost if the network is lost.

        last: whether the run ends with it. The state for a resumed run is saved before it. If the run was stopped
        early, it does not replace an earlier best, so that a resumed run equals one that was not stopped.
        """
        start, state = time.monotonic(), self.state
        for loss, norm in self.losses.drain():
            self._note(loss, norm)
        if not state.validated:  # the first validation sets it for all, from the ids read until then
            state.validated = int(min(max(state.ids * VALIDATED_SHARE, VALIDATED[0]), VALIDATED[1]))
        with self.learner.best_weights() as network:
            score = self.validate(network)
            if not math.isfinite(score.nats):
                raise Lost("is not a number any more")
            checkpoint = self.checkpoint(network, {"step": state.step, "validation": score.to_json()})
        best = state.best_bits is None or (score.bits_per_character < state.best_bits and not self.stopped_early)
        validation = self._describe(progress, score, draw_samples(checkpoint) if self.ranks.first else {}, best)
        state.validations.append(validation)
        state.stale = 0 if best else state.stale + 1
        if best:
            state.best_bits, state.best_step = score.bits_per_character, state.step
        state.next_validation = self._next_validation(progress, self.ranks.of_first(lambda: time.monotonic() - start))
        if self.ranks.first:
            self.unsaved |= {"last": checkpoint, "best": checkpoint} if best else {"last": checkpoint}
            self._save_checkpoints()
        if not last:
            self.good = self.moment()
            self._save_state(CHECKED)
        for watcher in self.watchers:
            watcher.validated(validation)

    def _next_validation(self, progress: float, spent: float) -> float:
        """The progress of the next validation; in a budget of minutes it comes later if the last one took long."""
        grid = (math.floor(progress * VALIDATIONS + 1e-9) + 1) / VALIDATIONS
        if self.budget.seconds is None:  # only the ids decide, so that a run can be repeated
            return grid
        return max(grid, progress + spent / (VALIDATION_SHARE * self.budget.seconds))

    def _describe(self, progress: float, score: Score, samples: dict[str, str], best: bool) -> Validation:
        state = self.state
        return Validation(
            step=state.step,
            characters=self.characters(),
            seconds=round(state.seconds, 3),
            progress=round(progress, 4),
            rate=state.rate,
            characters_per_second=round(self.speed(), 1),
            train_bits=round(self._bits(state.loss), 4),
            validation_bits=round(score.bits_per_character, 4),
            gradient_norm=round(state.norm or 0.0, 4),
            samples=samples,
            best=best,
        )

    def _save_checkpoints(self) -> None:
        """Write the checkpoints that are not on the disk yet; if it refuses one, that is tried again with the
        next."""
        for name, checkpoint in list(self.unsaved.items()):
            try:
                save(checkpoint, self.folder / name, self.dtype)
                del self.unsaved[name]
            except CheckpointError as error:
                self.tell(str(error))

    def _save_state(self, name: str) -> None:
        """Write the state to resume from; if the disk refuses, say so and keep the old file."""
        moment = self.moment()
        if not self.ranks.first:
            return
        try:
            moment.write(self.folder / FOLDER / name)
        except TrainingError as error:
            self.tell(str(error))

    def _end(self, progress: float) -> None:
        """Save the state, then validate a last time.

        Raises TrainingError if nothing was trained, or if the disk refuses to the end.
        """
        state = self.state
        self.stopped_early = self._stopped() and progress < 1
        if state.step == 0:
            why, more = "was stopped", "give it more time"
            if not self.stopped_early:
                least = math.ceil(10 * ENOUGH * self.elapsed() / 60) / 10
                why, more = "had used its budget", f"give it --minutes {least:g} or more"
            raise NothingTrained(f"The run {why} before its first step, so there is nothing to save; {more}.")
        self._save_state(LATEST)
        if not state.validations or state.validations[-1].step < state.step:
            try:
                self._validate(min(1.0, progress), last=True)
            except Lost as lost:
                self.tell(f"The training loss {lost} at the last step, {state.step:,}; that state is not kept.")
        self._save_checkpoints()
        if self.unsaved:
            raise TrainingError(
                f"The disk refused {' and '.join(sorted(self.unsaved))} of {self.folder} to the end; make room and go "
                f"on with `unroll train --resume {shell_word(self.folder)}`, if the corpus is in files."
            )

    def validate(self, network: Network) -> Score:
        """The score of the first `validated` ids of the validation part; fast rather than exact."""
        read = network_reader(network, bf16=self.config.precision == "bf16", threads=self.config.threads)
        validation, separator = self.split.validation, self.split.separator
        most, pieces = self.state.validated, self.ranks.count
        text = (
            alone_in_pieces(read, validation, separator, pieces, most, self.split.learn_after)
            if separator
            else carried_in_pieces(read, validation[:most], pieces, VALIDATION_BATCH)
        )
        score = measured({"": text}, self.ranks)[""]
        return replace(score, protocol=f"{score.protocol}, network in {self.config.precision}, measured while training")

    def checkpoint(self, network: Network, training: dict[str, Any]) -> Checkpoint:
        """The network as it is now."""
        return Checkpoint(
            config=self.config.network,
            tokenizer=self.tokenizer,
            tensors=to_tensors(network),
            unseen=self.unseen,
            training=training,
        )
