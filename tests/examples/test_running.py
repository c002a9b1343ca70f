"""What the recipes have in common: errors are sentences, commands of Unroll are waited for, packages named."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from examples.molecules.by_unroll import train
from examples.running import RecipeError, command, errors_told, need, text_of
from model.errors import CorpusError

OPTIONS = ["--layers", "1", "--hidden", "16", "--embedding", "8", "--threads", "1", "--epochs", "200"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (RecipeError("Put it there."), 2, "Put it there."),
        (CorpusError("The list has 1 item."), 2, "The list has 1 item."),
        (ModuleNotFoundError("No module named 'odd'", name="odd"), 2, "The recipe needs odd; install it with"),
        (OSError(errno.EROFS, "Read-only file system", "/there"), 2, "/there cannot be used: Read-only file system."),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "folder of --out cannot be used: No space left"),
        (KeyboardInterrupt("The run is saved."), 130, "The run is saved."),
        (KeyboardInterrupt(), 130, "Stopped."),
    ],
    ids=str,
)
def test_an_error_ends_in_a_sentence(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    @errors_told()
    def recipe() -> None:
        raise error

    with pytest.raises(typer.Exit) as end:
        recipe()
    assert end.value.exit_code == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), BrokenPipeError(errno.EPIPE, "Broken pipe")], ids=str)
def test_a_fault_stays_a_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), errors_told():
        raise error


def test_packages_that_lack_are_named_before_anything_is_done() -> None:
    need("json", "pathlib")
    with pytest.raises(RecipeError, match=r"needs not_there, nor_this; .*'\.\[examples\]'"):
        need("json", "not_there", "nor_this")


def test_a_text_that_is_not_utf_8_is_refused_at_its_byte(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_bytes("Go.\tVa !\nI see.\tVoilà.\n".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"pairs\.txt is not text in UTF-8 at byte 20; .*iconv"):
        text_of(file)
    file.write_bytes("Voilà.\r\n".encode())
    assert text_of(file) == "Voilà.\n"


def test_a_command_that_fails_says_why_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"`unroll info` could not do its work: There is no checkpoint folder at "):
        command("info", str(tmp_path / "nowhere"))


def test_training_that_is_stopped_is_saved_and_goes_on_with_the_same_options_alone(tmp_path: Path) -> None:
    corpus, run = tmp_path / "list.smi", tmp_path / "run"
    corpus.write_text("".join(f"C{'C' * (number % 7)}O{number % 13}N\n" for number in range(1500)))
    program = (
        "from pathlib import Path; from examples.molecules.by_unroll import train; "
        f"train(Path({str(corpus)!r}), Path({str(run)!r}), {OPTIONS!r}); print('a whole run')"
    )
    words = [sys.executable, "-c", program]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "validation" in line and "%" in line:  # the first of its checks
                    break
            os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert f"Resume: unroll train --resume {run}" in out, err  # it had the time to save
    assert "a whole run" not in out
    assert "What was trained is saved; the same command goes on with it." in err
    with pytest.raises(RecipeError, match=r"begun with other options, --layers 1 --hidden 16 .* --epochs 200; go on"):
        train(corpus, run, ["--epochs", "9"])
