"""What a TensorBoard log holds is what happened, read back with TensorBoard's own reader."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.errors import TrainingError, UnrollError
from training.monitoring import tensorboard_log
from training.monitoring.tensorboard_log import FOLDER, TensorBoardLog, as_code
from training.monitoring.watcher import Validation

HOSTILE = "# no heading\n</script> *no* <b>\n\n\tend"


def check(step: int, validation_bits: float, best: bool = True) -> Validation:
    return Validation(
        step=step,
        characters=100 * step,
        seconds=2.0,
        progress=0.5,
        rate=0.03 / step,
        characters_per_second=5000.0,
        train_bits=2.5,
        validation_bits=validation_bits,
        gradient_norm=0.25,
        samples={"0.5": "low", "0.8": f"at {step}", "1": HOSTILE},
        best=best,
    )


def read(folder: Path) -> Any:
    """The log by TensorBoard's reader; the test is skipped where that is not installed."""
    reason = "needs the package tensorboard, the extra `tensorboard`"
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=reason)
    log = reader.EventAccumulator(str(folder / FOLDER), size_guidance={"tensors": 0, "scalars": 0})
    log.Reload()
    return log


def scalars(log: Any, name: str) -> list[tuple[int, float]]:
    """Rounded, as the log keeps 32 bits."""
    return [(event.step, float(f"{event.value:.6g}")) for event in log.Scalars(name)]


def texts(log: Any, temperature: str) -> list[tuple[int, str]]:
    events = log.Tensors(f"sample/temperature {temperature}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in events]


def needs_tensorboard() -> None:
    pytest.importorskip("tensorboard", reason="needs the package tensorboard, the extra `tensorboard`")


def test_the_log_holds_what_happened(tmp_path: Path) -> None:
    needs_tensorboard()
    with TensorBoardLog(tmp_path, every=2) as log:
        for step in range(1, 6):
            log.stepped(step, step / 8, 1000.0 + step, 4 - step / 10)
        log.validated(check(5, 3.0))
        log.stepped(6, 0.75, 1006.0, 3.4)
        log.validated(check(6, 3.1, best=False))
        log.told("a sentence")
    assert log.ended is None
    written = read(tmp_path)
    assert scalars(written, "bits/train") == [(2, 3.8), (4, 3.6), (6, 3.4)]
    assert scalars(written, "characters per second") == [(2, 1002.0), (4, 1004.0), (6, 1006.0)]
    assert scalars(written, "progress") == [(2, 0.25), (4, 0.5), (6, 0.75)]
    assert scalars(written, "bits/validation") == [(5, 3.0), (6, 3.1)]
    assert scalars(written, "bits/best validation") == [(5, 3.0)]
    assert scalars(written, "learning rate") == [(5, 0.006), (6, 0.005)]
    assert scalars(written, "gradient norm") == [(5, 0.25), (6, 0.25)]
    assert texts(written, "0.8") == [(5, "    at 5"), (6, "    at 6")]
    assert texts(written, "1") == [(5, as_code(HOSTILE)), (6, as_code(HOSTILE))]


def test_a_check_is_on_disk_when_it_was_told(tmp_path: Path) -> None:
    needs_tensorboard()
    long = "a" * 100_000  # takes TensorBoard's thread longer to write than the reader to be there
    with TensorBoardLog(tmp_path) as log:
        log.validated(replace(check(5, 3.0), samples={"1": long}))
        written = read(tmp_path)
    assert scalars(written, "bits/validation") == [(5, 3.0)]
    assert texts(written, "1") == [(5, as_code(long))]


def test_a_resumed_run_voids_what_came_after_the_step_it_goes_on_from(tmp_path: Path) -> None:
    needs_tensorboard()
    with TensorBoardLog(tmp_path, every=1) as log:
        for step in range(1, 9):
            log.stepped(step, 0.1, 1.0, 5.0)
    with TensorBoardLog(tmp_path, resumed_at=4, every=1) as log:
        log.stepped(5, 0.1, 1.0, 4.0)
    assert scalars(read(tmp_path), "bits/train") == [(1, 5.0), (2, 5.0), (3, 5.0), (4, 5.0), (5, 4.0)]


def test_a_sample_is_code_whose_every_line_is_indented() -> None:
    assert as_code("a\n\n b") == "    a\n    \n     b"


def test_a_folder_that_cannot_be_written_to_is_named_before_the_run(tmp_path: Path) -> None:
    needs_tensorboard()
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(TrainingError, match=r"cannot be written to .*tensorboard .*choose another --out"):
        TensorBoardLog(tmp_path)


def test_a_disk_that_refuses_costs_the_log_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # TensorBoard's writing thread ends with the error
    needs_tensorboard()
    with TensorBoardLog(tmp_path, every=1) as log:
        shutil.rmtree(tmp_path / FOLDER)  # which the log finds out when it next writes
        log.validated(check(5, 3.0))
        for step in range(6, 100):
            log.stepped(step, 0.1, 1.0, 4.0)
    assert str(log.ended).startswith(
        f"The TensorBoard log ends early: {tmp_path / FOLDER} could not be written to (No such"
    )


def test_without_the_package_a_sentence_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard_log, "find_spec", lambda _: None)
    with pytest.raises(UnrollError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path)
