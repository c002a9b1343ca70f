"""A run that was stopped, killed or ran out of disk goes on as if nothing had happened, to the bit."""

import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.cells.spec import Cell
from model.checkpoint import load, save
from model.errors import ParameterError, TrainingError
from tests.training.verse import TEXT, Recorder, make_trainer
from training.loop.run_record import RECORD, read_record
from training.loop.run_state import CHECKED, ENDED, FOLDER, LATEST, RunState, Saved, newest
from training.monitoring.watcher import Validation
from training.planning.machine import check_precision
from training.planning.regularisation import Regularisation
from training.planning.train_options import Precision

EVERYTHING = Regularisation(
    input_dropout=0.1, layer_dropout=0.2, output_dropout=0.2, weight_drop=0.2, drop_state=0.1, locked=False
)
QUICK = ["--layers", "1", "--hidden", "32", "--embedding", "8", "--seed", "3", "--precision", "fp32", "--epochs", "12"]


def weights(folder: Path) -> dict[str, Any]:
    return dict(load(folder).tensors)


def assert_equal_runs(one: Path, other: Path) -> None:
    """Weights, state and moments of the optimiser agree to the bit."""
    for name in ("best", "last"):
        left, right = weights(one / name), weights(other / name)
        assert all(np.array_equal(left[tensor], right[tensor]) for tensor in left), name
    left_end, right_end = (Saved.read(run / FOLDER / LATEST) for run in (one, other))
    assert left_end.tensors.keys() == right_end.tensors.keys()
    assert all((left_end.tensors[name] == right_end.tensors[name]).all() for name in left_end.tensors)
    left_standing, right_standing = (RunState.from_json(end.state) for end in (left_end, right_end))
    timeless = {"elapsed": 0.0, "seconds": 0.0, "validations": []}
    assert dataclasses.replace(left_standing, **timeless) == dataclasses.replace(right_standing, **timeless)  # type: ignore[arg-type]


def without_times(metrics: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "characters_per_second")} for line in lines
    ]


def has_bf16() -> bool:
    try:
        check_precision("lstm", "bf16", torch.device("cpu"))
    except ParameterError:
        return False
    return True


BF16 = pytest.mark.skipif(not has_bf16(), reason="a processor that does not multiply bfloat16")


@pytest.mark.parametrize(
    ("cell", "stop_at", "attention", "precision"),
    [
        ("lstm", 1, 0, "fp32"),
        ("lstm", 40, 0, "fp32"),
        ("lstm", 7, 48, "fp32"),
        ("gru", 7, 0, "fp32"),
        ("rnn", 7, 16, "fp32"),
        pytest.param("lstm", 7, 48, "bf16", marks=BF16),
    ],
)
def test_steps_before_and_after_a_stop_equal_all_steps_at_once(
    tmp_path: Path, cell: Cell, stop_at: int, attention: int, precision: Precision
) -> None:
    options: dict[str, Any] = {
        "attention": attention, "precision": precision,
        "cell": cell, "layers": 2, "skip": True, "regularisation": EVERYTHING, "jitter": 3.0, "average": 0.6,
        "epochs": 3,
    }  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    make_trainer(whole, **options).run()
    first = make_trainer(parts, Recorder(stop_at), **options)
    assert first.run().step == stop_at
    assert first.stopped_early
    saved = newest(parts)
    assert saved is not None
    second = make_trainer(parts, **options)
    second.resume(*saved)
    end = second.run()
    assert end.step > 40
    assert_equal_runs(whole, parts)


def test_validating_and_saving_more_often_changes_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_trainer(tmp_path / "often", regularisation=EVERYTHING).run()
    monkeypatch.setattr("training.loop.trainer.VALIDATIONS", 2)
    monkeypatch.setattr("training.loop.trainer.SAVED_EVERY", 0.0)
    seldom = make_trainer(tmp_path / "seldom", regularisation=EVERYTHING)
    assert len(seldom.run().validations) == 2
    often, seldom_weights = weights(tmp_path / "often" / "last"), weights(tmp_path / "seldom" / "last")
    assert all(np.array_equal(often[name], seldom_weights[name]) for name in often)


def start(*words: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "unroll", "train", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


def finish(process: subprocess.Popen[bytes]) -> str:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "verse.txt").write_text(TEXT * 3)
    finish(start(str(folder / "verse.txt"), "--out", str(folder / "run"), *QUICK))
    return folder


def after_checks(number: int) -> Callable[[Path], bool]:
    def seen(run: Path) -> bool:
        metrics = run / "metrics.jsonl"
        return metrics.is_file() and metrics.read_text().count("\n") >= number

    return seen


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_goes_on_to_the_weights_of_one_that_was_left_alone(
    uninterrupted: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    process = start(str(uninterrupted / "verse.txt"), "--out", str(run), *QUICK)
    for _ in range(4000):
        if after_checks(5)(run) or process.poll() is not None:
            break
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 0)
    saved = newest(run)
    assert saved is not None
    left = RunState.from_json(saved[0].state).step
    assert left < load(uninterrupted / "run" / "last").training["steps"]
    output = finish(start("--resume", str(run)))
    assert f"Resuming {run}" in output.replace("\n", "")
    assert_equal_runs(uninterrupted / "run", run)
    assert without_times(run / "metrics.jsonl") == without_times(uninterrupted / "run" / "metrics.jsonl")


def test_a_finished_run_resumes_to_what_it_is(uninterrupted: Path) -> None:
    run = uninterrupted / "run"
    before = weights(run / "best")
    (run / "curves.svg").unlink()
    (run / "curves.png").write_bytes(b"as older versions drew it")
    finish(start("--resume", str(run)))
    assert (run / "curves.svg").is_file()
    after = weights(run / "best")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run by its name."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run with a budget in minutes, long enough to be validated and calibrated."""
    folder = tmp_path_factory.mktemp("timed")
    (folder / "verse.txt").write_text(TEXT * 300)
    words = [str(folder / "verse.txt"), *QUICK[:-2], "--out", str(folder / "run"), "--overwrite"]
    for minutes in ("0.15", "0.6", "2.4"):  # a busy machine may need a shorter one before its first step
        process = start(*words, "--minutes", minutes)
        process.communicate(timeout=300)
        if process.returncode == 0:
            return folder / "run"
    return pytest.fail("The machine took no step in two minutes.")


def test_resuming_a_complete_run_leaves_every_file_as_it_is(timed: Path) -> None:
    before = contents(timed)
    assert "temperature" in load(timed / "best").training
    said = " ".join(finish(start("--resume", str(timed))).split())
    assert "This run is complete" in said
    assert f"unroll train CORPUS --from {timed}/best" in said
    assert contents(timed) == before


def test_resuming_a_run_that_an_earlier_version_completed_leaves_every_file_as_it_is(
    timed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(timed, run)
    (run / FOLDER / ENDED).unlink()
    before = contents(run)
    assert "This run is complete" in finish(start("--resume", str(run)))
    assert contents(run) == before


def test_missing_results_of_a_complete_run_are_written_as_they_were(timed: Path, tmp_path: Path) -> None:
    run = tmp_path / timed.name
    shutil.copytree(timed, run)
    before = contents(run)
    for name in ("metrics.jsonl", "curves.svg", "report.html"):
        (run / name).unlink()
    assert "Done: test" in finish(start("--resume", str(run)))
    after = contents(run)
    for files in (before, after):  # the report says how to try the checkpoint, where it is now
        files["report.html"] = files["report.html"].replace(str(timed).encode(), str(run).encode())
    assert {name for name in before if after.get(name) != before[name]} == set()


def test_a_run_that_was_killed_while_it_was_scored_gets_the_weights_it_would_have_had(
    timed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(timed, run)
    fitted, ended = load(run / "best"), (run / "metrics.jsonl").read_bytes()
    unscaled = {**fitted.tensors}
    for name in ("out.weight", "out.bias"):  # as they were before they were fitted
        unscaled[name] = fitted.tensors[name] * np.float32(fitted.training["temperature"])
    score = {"validation": fitted.training["figures"]["validation"]}
    save(dataclasses.replace(fitted, tensors=unscaled, training=score), run / "best")
    finish(start("--resume", str(run)))
    assert load(run / "best").training["temperature"] == pytest.approx(fitted.training["temperature"], abs=1e-3)
    assert (run / "metrics.jsonl").read_bytes() == ended


def test_a_run_that_an_earlier_version_began_is_read_under_the_names_of_today(
    uninterrupted: Path, tmp_path: Path
) -> None:
    former = {
        "batch_size": "lanes", "sequence_length": "length", "learning_rate": "rate", "warmup_steps": "warm_up",
        "max_grad_norm": "clip", "precision": "arithmetic",
    }  # fmt: skip
    shutil.copytree(uninterrupted / "run" / FOLDER, tmp_path / FOLDER)
    path = tmp_path / FOLDER / RECORD
    written = json.loads(path.read_text())
    plan = {former.get(name, name): value for name, value in written["config"].items()}
    shares = plan["regularisation"]
    shares["between_dropout"] = shares.pop("layer_dropout")
    dtype = written.pop("dtype")
    path.write_text(json.dumps({**written, "precision": dtype, "config": plan}))
    assert read_record(tmp_path) == read_record(uninterrupted / "run")
    saved = newest(tmp_path)
    assert saved is not None
    assert {"checks", "next_check"} <= json.loads(saved[0].state).keys()  # as every version calls them there


def test_a_full_disk_keeps_what_was_saved_and_says_so_and_the_run_goes_on_when_there_is_room(
    uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    corpus = str(uninterrupted / "verse.txt")

    def nearly_full() -> None:  # no file may grow beyond what the first checkpoint needs
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    process = start(corpus, "--out", str(run), *QUICK, preexec_fn=nearly_full)
    out, err = process.communicate(timeout=100)
    said = " ".join((out + err).decode().split())
    assert process.returncode == 1
    assert "could not be written (File too large)" in said
    assert "The disk refused best and last" in said
    assert f"unroll train --resume {run}" in said.replace("- ", "-")
    assert not (run / "best").exists()
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]
    finish(start("--resume", str(run)))
    assert_equal_runs(uninterrupted / "run", run)


def test_a_disk_that_fills_later_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    recorder = Recorder()
    running = make_trainer(tmp_path / "run", recorder)
    resume_folder = tmp_path / "run" / FOLDER

    class Blocker(Recorder):
        def validated(self, validation: Validation) -> None:
            if validation.step > 40 and not (resume_folder / f".{CHECKED}.new").exists():
                (resume_folder / f".{CHECKED}.new").mkdir()  # the next saving cannot make its file

    running.watchers = [recorder, Blocker()]
    state = running.run()
    kept = RunState.from_json(Saved.read(resume_folder / CHECKED).state)
    assert 40 < kept.step < state.step
    assert any("could not be written" in note and "make room" in note for note in recorder.notes)


def test_a_folder_without_a_run_and_a_damaged_state_are_refused_with_a_sentence(
    uninterrupted: Path, tmp_path: Path
) -> None:
    process = start("--resume", str(tmp_path))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "has no run to resume" in " ".join(err.decode().split())
    state = tmp_path / FOLDER / CHECKED
    state.parent.mkdir()
    state.write_bytes((uninterrupted / "run" / FOLDER / CHECKED).read_bytes()[:-5])
    with pytest.raises(TrainingError, match=r"checked\.safetensors is damaged"):
        newest(tmp_path)


def put_into_record(run: Path, zoneout: float, tied: bool) -> None:
    """What the record of an earlier version says beside."""
    path = run / FOLDER / RECORD
    values = json.loads(path.read_text("utf-8"))
    values["network"]["zoneout"] = zoneout
    values["config"]["regularisation"]["tied"] = tied
    path.write_text(json.dumps(values), "utf-8")


def test_a_run_recorded_with_zoneout_and_tied_weights_off_resumes(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted / "run", run)
    expected, _ = read_record(run)
    put_into_record(run, 0.0, False)
    assert read_record(run)[0] == expected
    finish(start("--resume", str(run)))
    assert_equal_runs(uninterrupted / "run", run)


@pytest.mark.parametrize(
    ("zoneout", "tied", "used"),
    [(0.05, False, "zoneout 0.05"), (0.0, True, "tied weights"), (0.1, True, "zoneout 0.1 and tied weights")],
)
def test_a_run_recorded_with_zoneout_or_tied_weights_is_refused(
    uninterrupted: Path, tmp_path: Path, zoneout: float, tied: bool, used: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted / "run", run)
    put_into_record(run, zoneout, tied)
    with pytest.raises(TrainingError) as caught:
        read_record(run)
    assert str(caught.value) == (
        f"The run in {run} uses {used}, which this version of Unroll no longer has; "
        "train it anew, or use the version that wrote it."
    )


def test_resuming_takes_no_other_option_and_no_changed_corpus(tmp_path: Path) -> None:
    corpus = tmp_path / "verse.txt"
    corpus.write_text(TEXT)
    finish(start(str(corpus), "--out", str(tmp_path / "run"), *QUICK[:-1], "1"))
    process = start("--resume", str(tmp_path / "run"), "--rate", "0.1", str(corpus))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "leave out --rate, CORPUS" in " ".join(err.decode().split())
    corpus.write_text(TEXT + "and more\n")
    process = start("--resume", str(tmp_path / "run"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "not the text it was trained on any more" in " ".join(err.decode().split())


def test_a_last_validation_after_a_resumption_reports_the_rate_of_the_last_step(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path, epochs=3).run()
    saved = newest(tmp_path)  # saved before the last validation, as a run that is killed there leaves it
    assert saved is not None
    again = make_trainer(tmp_path, epochs=3)
    again.resume(*saved)
    assert again.run().validations[-1].rate == whole.validations[-1].rate
