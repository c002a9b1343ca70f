"""The training loop: read a window, take a step, watch the loss; at intervals validate, sample and save."""

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
VALIDATION_SHARE = 0.025  # of a budget in minutes that they may cost; where they would cost more they come less often
VALIDATED = (1 << 12, 1 << 16)  # ids of the validation part read at each validation, at least and at most
VALIDATED_SHARE = 0.1  # of the ids read between two validations; reading without learning takes a third of the time
VALIDATION_BATCH = 16
SMOOTHED = 0.98  # of a running mean that stays at each step
EXPLODED = 1.0  # nats by which the running loss may rise above its lowest before the run counts as lost
ROLLED_BACK = 3  # times at most
LOWERED = 0.5  # the rate after a roll-back, as a share of the one before

ENOUGH = 3  # times what a run took until its first step: with so much time it takes some, and half is for the end
SAVED_EVERY = 60.0  # seconds between two savings of the state at most: what a killed run has to do again


class Lost(Exception):
    """The loss is not finite, or far above its lowest; the text says which."""


class NothingTrained(TrainingError):
    """A run ended before its first step."""


class Trainer:
    """One run: a learner, its batches, its budget and its state.

    folder: `best` and `last` below it are checkpoints, `resume` holds the state to resume from; each is written whole.
    initial_weights: the weights before the first step, and the ids that never occurred. taught: what teachers expect.
    started: time.monotonic() at which the budget in minutes began; finish: seconds of it kept for the results.
    ranks: the processes that train together. Each has a trainer; all of these take the same decisions, by the clock of
    the first, which alone writes and has watchers.
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
        # Ids and characters differ where rare characters are spelt in bytes; progress bars speak of characters.
        self.characters_per_id = spelt(initial_weights.counts) / len(split.train)
        self._agreed, self._all_stop = (
            0.0,
            False,
        )  # the first one's clock, and whether one was to stop, at the last step
        self.good = self.moment()
        self.stopped_early = False
        self.unsaved: dict[str, Checkpoint] = {}
        """Checkpoints the disk refused, by name; written again with the next."""
        self.stop = False
        """Set from a signal handler, in one process or in all: the step in hand is the last."""

    def run(self) -> FinishedRun:
        """Train until the budget is used, `stop` is set or nothing gets better; `best` and `last` are then on disk.

        Raises TrainingError when the loss is lost again and again, or when the disk refused to the end; what was saved
        before is kept.
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
        """The run as it stands, after which nothing changes it."""
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
        """Seconds of the budget used, those before a resumption included."""
        return time.monotonic() - self.started if self.ranks.count == 1 else self._agreed

    def _stopped(self) -> bool:
        """Whether the run is to stop, as all processes know since the last step."""
        return self.stop if self.ranks.count == 1 else self._all_stop

    def seconds_left(self) -> float | None:
        """Until the budget is used, from the first second where it is one in minutes."""
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
        """Let a step's loss count in the running means. Raises Lost where it shows that the run is lost."""
        state = self.state
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise Lost("is not a number any more")
        state.loss = loss if state.loss is None else SMOOTHED * state.loss + (1 - SMOOTHED) * loss
        state.norm = norm if state.norm is None else SMOOTHED * state.norm + (1 - SMOOTHED) * norm
        state.lowest = state.loss if state.lowest is None else min(state.lowest, state.loss)
        if (risen := state.loss - state.lowest) > EXPLODED:
            raise Lost(f"rose by {risen:.1f} nats")

    def _roll_back(self, what: str) -> None:
        """Go back to the last good moment with a lower rate. Raises TrainingError when that was done too often."""
        lost = self.state
        where = f"The training loss {what} at step {lost.step:,}"
        if lost.rolled_back == ROLLED_BACK:
            last = self.folder / "last"
            kept = f"{last} holds the last good state" if lost.validations else "nothing had been saved yet"
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
            f"{where}; went back to step {state.step:,}, and on from there with {state.rate_factor:g} of the "
            "learning rate."
        )

    def tell(self, note: str) -> None:
        """Keep a sentence for the report, and show it."""
        self.state.notes.append(note)
        self.show(note)

    def show(self, note: str) -> None:
        """Show a sentence that is of this moment alone."""
        for watcher in self.watchers:
            watcher.told(note)

    def moment(self) -> Saved:
        """Everything as it is between two steps."""
        state = replace(
            self.state, elapsed=self.elapsed(), position=self.batches.position(), averaged=self.learner.averaged
        )
        return Saved(state.to_json(), self.learner.tensors())

    def go_to(self, moment: Saved, keep_time: bool = True) -> None:
        """Put everything back as it was. keep_time: whether the seconds since then count as used."""
        self.losses.forget()
        self.state = RunState.from_json(moment.state)
        self.learner.restore(moment.tensors, self.state.averaged)
        self.batches.go_to(self.state.position)
        if not keep_time:
            self.started = time.monotonic() - self.state.elapsed

    def resume(self, newest: Saved, good: Saved) -> None:
        """Continue from a moment that was saved; a roll-back returns to `good`."""
        self.go_to(newest, keep_time=False)
        self.good = good

    def stand_at_end(self, state: RunState) -> FinishedRun:
        """The run that ended in that state; no more of it is trained."""
        self.state = state
        return replace(self.finished(), elapsed=state.elapsed)

    def speed(self) -> float:
        """Characters a second of the whole run."""
        return self.characters() / max(self.state.seconds, 1e-9)

    def characters(self) -> int:
        """How many characters were read."""
        return int(self.state.ids * self.characters_per_id)

    def _bits(self, nats_per_id: float | None) -> float:
        return math.nan if nats_per_id is None else nats_per_id / self.characters_per_id / math.log(2)

    def _validate(self, progress: float, last: bool = False) -> None:
        """Validate, sample and save. Raises Lost where the network is.

        last: whether the run ends with it. The state that a resumed run starts from is saved before it. Where the run
        was stopped early, it does not replace an earlier best, so that a resumed run equals one that was not stopped.
        """
        start, state = time.monotonic(), self.state
        for loss, norm in self.losses.drain():
            self._note(loss, norm)
        if not state.validated:  # the first validation fixes it for all, from what was read until then
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
        """The progress of the next validation, put off in a budget of minutes when the last one took long."""
        grid = (math.floor(progress * VALIDATIONS + 1e-9) + 1) / VALIDATIONS
        if self.budget.seconds is None:  # ids alone decide, so that a run can be repeated
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
        """Write the checkpoints that are not on the disk yet; one that it refuses is tried again with the next."""
        for name, checkpoint in list(self.unsaved.items()):
            try:
                save(checkpoint, self.folder / name, self.dtype)
                del self.unsaved[name]
            except CheckpointError as error:
                self.tell(str(error))

    def _save_state(self, name: str) -> None:
        """Write the state to resume from; where the disk refuses, say so and keep the file that is there."""
        moment = self.moment()
        if not self.ranks.first:
            return
        try:
            moment.write(self.folder / FOLDER / name)
        except TrainingError as error:
            self.tell(str(error))

    def _end(self, progress: float) -> None:
        """Save the state, then validate a last time.

        Raises TrainingError when nothing was trained, or when the disk refuses to the end.
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
                f"on with `unroll train --resume {shell_word(self.folder)}`, if the corpus lies in files."
            )

    def validate(self, network: Network) -> Score:
        """The score of the first `validated` ids of the validation part, quick rather than exact."""
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
