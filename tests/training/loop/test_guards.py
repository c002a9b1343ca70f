"""A lost run goes back and on with a lower rate; one that gets no better ends; one that overfits says so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.checkpoint import load
from model.errors import TrainingError
from tests.training.verse import Recorder, make_trainer
from training.loop.trainer import ROLLED_BACK
from training.monitoring.watcher import Validation
from training.report.diagnosis import verdict


class Poisoner(Recorder):
    """Spoils the weights of a run after its first checks past the 20th step, as a bad batch or a bad rate would."""

    def __init__(self, factor: float, times: int) -> None:
        super().__init__()
        self.factor, self.times = factor, times

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:  # noqa: ARG002
        if step % 20 == 5 and step > 20 and self.times and self.trainer is not None:
            self.times -= 1
            with torch.no_grad():
                self.trainer.learner.network.out.weight.mul_(self.factor)


@pytest.mark.parametrize(("factor", "what"), [(float("nan"), "is not a number any more"), (1000, "rose by")])
def test_a_run_that_is_lost_goes_back_to_the_last_good_step_and_on_with_half_the_rate(
    tmp_path: Path, factor: float, what: str
) -> None:
    recorder = Poisoner(factor, times=1)
    running = make_trainer(tmp_path, recorder, epochs=12)
    outcome = running.run()
    assert running.state.rolled_back == 1
    assert running.state.rate_factor == 0.5
    assert len(recorder.notes) == 1
    assert f"The training loss {what}" in recorder.notes[0]
    assert "continued with 0.5 of the learning rate" in recorder.notes[0]
    assert outcome.validations[-1].validation_bits < 1
    steps = [check.step for check in outcome.validations]
    assert steps == sorted(steps)
    whole = make_trainer(tmp_path / "whole", epochs=12).run()
    assert outcome.step == whole.step  # the budget was not spent on what was undone


def test_a_run_that_is_lost_again_and_again_keeps_the_last_good_checkpoint_and_says_what_to_change(
    tmp_path: Path,
) -> None:
    recorder = Poisoner(float("nan"), times=100)
    running = make_trainer(tmp_path, recorder, epochs=16)
    with pytest.raises(
        TrainingError, match=r"not a number.* after 3 roll-backs; .*good state.*lower --learning-rate \(it was 0.01\)"
    ):
        running.run()
    assert len(recorder.notes) == ROLLED_BACK
    kept = load(tmp_path / "last")  # load refuses NaN
    assert kept.training["step"] > 0
    assert kept.training["validation"]["bits_per_character"] < 6


def test_a_step_back_is_to_the_bit(tmp_path: Path) -> None:
    """Poisoned once and gone back, with the rate then put back: the weights of a run that never was."""

    class Restorer(Poisoner):
        def told(self, note: str) -> None:
            super().told(note)
            assert self.trainer is not None
            self.trainer.state.rate_factor = 1.0

    make_trainer(tmp_path / "poisoned", Restorer(float("nan"), times=2), epochs=3).run()
    make_trainer(tmp_path / "left alone", epochs=3).run()
    poisoned, alone = (load(tmp_path / name / "last").tensors for name in ("poisoned", "left alone"))
    assert all(np.array_equal(poisoned[name], alone[name]) for name in alone)


def test_a_run_ends_early_when_validations_bring_nothing_better(tmp_path: Path) -> None:
    running = make_trainer(
        tmp_path, epochs=50, learning_rate=1e-9, patience=3
    )  # it learns nothing worth a fourth digit
    state = running.run()
    best = [check.step for check in state.validations].index(state.best_step)
    assert len(state.validations) == best + 1 + 3
    assert not running.stopped_early
    assert "3 validations in a row brought nothing better" in " ".join(verdict(running.finished()))


def check(step: int, train: float, validation: float) -> Validation:
    return Validation(
        step=step, characters=step * 100_000, seconds=1.0, progress=0.1, rate=1e-3, characters_per_second=1.0,
        train_bits=train, validation_bits=validation, gradient_norm=1.0, samples={}, best=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ([(2.0, 2.1), (1.5, 1.9), (1.0, 2.0)], ["overfits", "at step 1 (1.900 bits) and ended at 2.000", "--dropout"]),
        ([(2.0, 2.1), (1.5, 1.95), (1.5, 1.9)], ["much better (1.500 bits) than held-out text (1.900)", "--hidden"]),
        ([(2.0, 2.1), (1.9, 2.0), (1.9, 1.95)], []),
        ([(3.0 - k / 10, 3.1 - k / 10) for k in range(9)], ["still learning", "gained 0.20 bits"]),
    ],
)
def test_curves_are_put_into_plain_sentences(tmp_path: Path, curve: list[Any], said: list[str]) -> None:
    running = make_trainer(tmp_path)
    running.state.validations = [check(step, *bits) for step, bits in enumerate(curve)]
    notes = " ".join(verdict(running.finished()))
    assert all(words in notes for words in said)
    assert bool(notes) == bool(said)


def test_what_was_read_once_is_not_known_by_heart(tmp_path: Path) -> None:
    running = make_trainer(tmp_path)
    running.state.validations = [check(0, 2.0, 2.5), check(1, 1.5, 1.9)]
    assert "much better" in verdict(running.finished())[0]
    once = len(running.finished().split.train)
    running.state.validations[-1] = replace(running.state.validations[-1], characters=once)
    assert verdict(running.finished()) == []
