"""A disk that fills while a verb writes: a sentence with a remedy, no traceback, and what was there before is kept."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model.checkpoint import load, save
from tests.model.small import CHARACTERS, small_checkpoint

REPOSITORY = Path(__file__).parents[3]
ELSEWHERE = "unroll: The output cannot be written (No space left on device); free some space, or write it elsewhere."


def limited(*words: str | Path, largest: int, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A verb whose files cannot grow beyond some bytes, as on a disk that is full then."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    return subprocess.run(
        [sys.executable, "-B", "-m", "unroll", *map(str, words)],
        cwd=REPOSITORY,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        preexec_fn=limit,
    )


def said(ended: subprocess.CompletedProcess[str], code: int = 1) -> str:
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    return " ".join(ended.stderr.split())


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("generate _ --max-tokens 20", 1),
        ("generate _ --json --max-tokens 20", 1),
        ("generate _ --count 3", 1),
        ("info _", 1),
        ("info _ --json", 1),
        ("score _ README.md", 2),
        ("--help", 1),
    ],
)
def test_standard_output_on_a_full_disk_is_told(line: str, code: int, checkpoint_folder: Path) -> None:
    words = [str(checkpoint_folder) if word == "_" else word for word in line.split()]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "unroll", *words],
            cwd=REPOSITORY,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )
    assert said(ended, code).endswith(ELSEWHERE)


def test_a_list_stops_with_what_was_saved_and_goes_on_with_room(checkpoint_folder: Path, tmp_path: Path) -> None:
    asked = ["generate", str(checkpoint_folder), "--count", "3000", "--max-tokens", "60", "--seed", "7", "--out"]
    whole, out = tmp_path / "whole.txt", tmp_path / "list.txt"
    assert limited(*asked, whole, largest=10_000_000).returncode == 0
    sentence = said(limited(*asked, out, largest=30_000))
    remedy = "free some space, then go on with the same command and --resume."
    assert sentence.endswith(f"{out} could not be written (File too large); {remedy}")
    assert limited(*asked, out, "--resume", largest=10_000_000).returncode == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_list_that_cannot_begin_leaves_no_file(checkpoint_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "list.txt"
    sentence = said(limited("generate", checkpoint_folder, "--count", "3", "--out", out, largest=10))
    assert sentence.endswith(f"{out} could not be written (File too large); free some space.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["--write-memory", "--write-surprise"])
def test_a_checkpoint_that_cannot_be_given_figures_works_as_before(what: str, tmp_path: Path) -> None:
    folder, text = tmp_path / "best", tmp_path / "text.txt"
    save(small_checkpoint(), folder)
    text.write_text((CHARACTERS * 900)[:20_000], "utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    sentence = said(limited("evaluate", folder, text, "--split", "50/25/25", what, largest=100))
    assert (
        f"The checkpoint {folder} could not be written (File too large), and works as before; free some space, and run "
        "the command again."
    ) in sentence
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    load(folder)


def test_a_pipe_that_has_no_room_among_temporary_files_is_told(tmp_path: Path) -> None:
    sentence = said(limited("train", "-", "--out", tmp_path / "run", largest=3_000, stdin="to be or not\n" * 400))
    assert "A temporary copy has no room in " in sentence
    assert sentence.endswith("(File too large); free some space, or set TMPDIR to a folder with more.")
