"""The program in several processes: started by itself or by torchrun, stopped, killed and gone on with."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import load
from tests.training.verse import TEXT, make_trainer
from training.distributed.launch import without_processes
from training.distributed.ranks import RankLost
from training.signals import stop_on_signals

QUICK = [
    *("--layers", "1", "--hidden", "32", "--embedding", "8", "--precision", "fp32", "--dropout", "0.2"),
    *("--batch-size", "8", "--sequence-length", "32", "--no-fit-temperature"),
]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(*words: str, engine: Sequence[str] = (), folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    command = [sys.executable, *engine, "-m", "unroll", "train", *words]
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=250)
    assert process.returncode == status, out + err
    return out, err


def wait_for(seen: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(1500):
        if seen():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("nothing was seen")


def ranks_of(engine: int) -> dict[int, int]:
    """The processes of a run by their ranks: those that the engine of torchrun started."""
    found: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            content = (folder / "environ").read_bytes().split(b"\0") if parent == engine else []
        except (OSError, IndexError):
            continue
        found |= {int(one[5:]): int(folder.name) for one in content if one.startswith(b"RANK=")}
    return found


def steps_of(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.is_file() else 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("together")
    (made / "verse.txt").write_text(TEXT * 4)
    return made


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """A run of one process."""
    finish(start("verse.txt", "--out", "alone", "--epochs", "4", *QUICK, folder=folder))
    return folder / "alone"


def assert_alike(one: Path, other: Path) -> None:
    left, right = load(one / "last"), load(other / "last")
    for name, weights in left.tensors.items():
        assert np.allclose(weights, right.tensors[name], atol=5e-3), name


def test_a_signal_saves_and_ends_all_and_the_run_goes_on_to_the_weights_of_one_process(
    folder: Path, alone: Path
) -> None:
    process = start("verse.txt", "--out", "two", "--epochs", "4", "--processes", "2", *QUICK, folder=folder)
    wait_for(lambda: steps_of(folder / "two") >= 2, process)
    assert sorted(ranks_of(process.pid)) == [0, 1]
    process.send_signal(signal.SIGTERM)
    out, err = finish(process)
    assert "fp32 on cpu, 2 processes of 1 thread" in out
    assert "Stopped early, saved" in out
    assert "Resume: unroll train --resume two --processes 2" in out
    assert err == ""
    out, _ = finish(start("--resume", "two", "--processes", "2", folder=folder))
    assert "Done: test" in out
    assert_alike(folder / "two", alone)
    assert "2 processes" in load(folder / "two" / "best").training["machine"]


def test_a_killed_process_ends_the_others_with_a_sentence_and_a_run_that_goes_on(folder: Path, alone: Path) -> None:
    process = start("verse.txt", "--out", "killed", "--epochs", "4", "--processes", "2", *QUICK, folder=folder)
    wait_for(lambda: steps_of(folder / "killed") >= 2, process)
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    _, err = finish(process, 1)
    assert re.search(r"Rank 0 of 2 cannot reach the others any more \(.+\): one has ended", err), err
    assert re.search(r"was saved after step \d+; go on from there with `unroll train --resume killed`", err), err
    assert re.search(r"Rank 1 \(process \d+\) was killed by SIGKILL, and the others have ended, too\.", err), err
    finish(start("--resume", "killed", folder=folder))  # by one process
    assert_alike(folder / "killed", alone)


def test_a_process_killed_while_the_run_is_measured_leaves_a_run_that_goes_on(folder: Path) -> None:
    (folder / "long.txt").write_text(TEXT * 100)  # of which more cold windows could be read than there is time for
    words = ["long.txt", "--out", "measured", "--epochs", "0.1", "--processes", "2", *QUICK]
    process = start(*words, folder=folder)
    assert process.stdout is not None
    assert any("Scoring the best checkpoint" in line for line in process.stdout)
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    _, err = finish(process, 1)
    assert re.search(r"Rank 0 of 2 cannot reach the others any more \(.+\): one has ended", err), err
    left = "The run is trained to its end, but not measured; that is left to `unroll train --resume measured`."
    assert left in err
    assert "figures" not in load(folder / "measured" / "best").training
    shutil.copytree(folder / "measured", folder / "by one")
    figures = {}
    for name, more in {"measured": ["--processes", "2"], "by one": []}.items():
        out, err = finish(start("--resume", name, *more, folder=folder))
        assert "Writing what is missing of the results" in out
        assert err == ""
        figures[name] = load(folder / name / "best").training["figures"]
    for part in ("validation", "test", "validation and test"):
        together, alone = (figures[name][part]["nats_per_character"] for name in ("measured", "by one"))
        assert together == pytest.approx(alone, abs=1.5e-4), part  # both rounded to four digits


def test_who_has_lost_the_others_is_not_ended_before_it_has_said_so(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        with pytest.raises(RankLost), stop_on_signals(make_trainer(tmp_path)):
            raise RankLost("one has ended")
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN, signal.SIG_IGN]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    with stop_on_signals(make_trainer(tmp_path)):
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_torchrun_starts_a_run_anew_where_a_process_died_and_it_goes_on(folder: Path, alone: Path) -> None:
    engine = [*TORCHRUN, "--max-restarts", "1"]
    process = start("verse.txt", "--epochs", "4", *QUICK, engine=engine, folder=folder)
    run = folder / "runs" / "verse"
    wait_for(lambda: steps_of(run) >= 2, process)
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    out, _ = finish(process)
    assert "Resuming runs/verse on cpu." in out
    assert "Done: test" in out
    assert sorted(path.name for path in (folder / "runs").iterdir() if not path.name.startswith(".")) == ["verse"]
    assert_alike(run, alone)


def test_what_cannot_be_is_refused_in_a_sentence(folder: Path) -> None:
    environment = {**os.environ, "WORLD_SIZE": "2", "RANK": "1"}
    environment.pop("MASTER_ADDR", None)
    words = [sys.executable, "-m", "unroll", "train", "verse.txt"]

    def refused(*more: str, **said: str) -> str:
        done = subprocess.run(
            [*words, *more], cwd=folder, capture_output=True, text=True, env={**environment, **said}, check=False
        )
        assert done.returncode == 1, done
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "MASTER_ADDR and MASTER_PORT are not set; start them with `torchrun`" in refused()
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    assert "RANK is 2, but WORLD_SIZE is 2: ranks are 0 to 1" in refused(RANK="2", **where)
    assert "torchrun has started the processes already; leave out --processes" in refused("--processes", "2")
    odd = refused("--processes", "2", "--batch-size", "7", WORLD_SIZE="1")
    assert "A batch has 7 sequences (--batch-size), which 2 processes cannot share evenly; choose 6 or 8" in odd


def test_processes_get_the_command_line_without_the_option_that_asked_for_them() -> None:
    words = ["train", "--processes", "2", "a.txt", "--processes=3", "--seed", "1", "--", "--processes"]
    assert without_processes(words) == ["train", "a.txt", "--seed", "1", "--", "--processes"]
