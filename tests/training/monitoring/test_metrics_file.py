"""The file of a run's validations: written as the run goes on, and written again as it was."""

import json
from dataclasses import asdict
from pathlib import Path

from training.loop.run_state import RunState
from training.monitoring.metrics_file import METRICS, MetricsFile
from training.monitoring.watcher import Validation


def validation(step: int, bits: float, best: bool) -> Validation:
    return Validation(
        step=step, characters=10 * step, seconds=1.5, progress=0.1 * step, rate=0.01, characters_per_second=100.0,
        train_bits=2.0, validation_bits=bits, gradient_norm=0.5, samples={"0.8": "a text"}, best=best,
    )  # fmt: skip


# The second is the best by less than the figures show; the fourth equals it as it is shown, and is not.
VALIDATIONS = [validation(1, 2.5, True), validation(2, 2.5, True), validation(3, 2.6, False), validation(4, 2.5, False)]


def test_a_file_that_is_written_again_is_the_file_that_was_written(tmp_path: Path) -> None:
    as_it_went = MetricsFile(tmp_path)
    for one in VALIDATIONS:
        as_it_went.validated(one)
    written = (tmp_path / METRICS).read_bytes()
    kept = RunState.from_json(RunState(validations=VALIDATIONS).to_json())
    MetricsFile(tmp_path, kept.validations)
    assert (tmp_path / METRICS).read_bytes() == written
    assert [json.loads(line)["best"] for line in written.splitlines()] == [True, True, False, False]


def test_the_best_of_a_state_that_an_earlier_version_kept_are_the_lowest_as_they_are_shown() -> None:
    state = RunState(validations=[validation(step, bits, False) for step, bits in enumerate((2.5, 2.4, 2.45, 2.3))])
    written = json.loads(state.to_json())
    written["checks"] = [
        {name: value for name, value in asdict(one).items() if name != "best"} for one in state.validations
    ]
    assert [one.best for one in RunState.from_json(json.dumps(written)).validations] == [True, True, False, True]
