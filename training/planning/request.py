"""What a user asks of a run: on which text, with which plan, where to and on which device."""

import errno
import itertools
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from model.config import WeightsDtype
from model.errors import TrainingError
from training.data.left_out import OnDecodeError
from training.data.split_scheme import DEFAULT, IN_WORDS, shares_of
from training.planning.option import Range, check_ranges, option
from training.planning.overrides import PlanOverrides

CHECKPOINTS = ("best", "last")  # in a run's folder
LONGEST_STEM = 100  # bytes of a run's own name
LONGEST_NAME = 255 - len("..previous")  # bytes of a name, on every disk in use, with what is put around it for a moment


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks of a run, each option said once; `unroll train` is made from these fields in this order.

    corpus: files, folders, "-"; none is the reference prose Python carries.
    out: the run's folder; None is one of its own below runs/, named after the corpus.
    resume: the run to go on with, which has its own plan and corpus. base: a checkpoint to train on.
    command: the command line, for the card.
    Raises ParameterError on a number out of range and on a split that is none.
    """

    corpus: tuple[str, ...] = option(
        (),
        "Files, folders (every text file below), archives, or - for standard input.",
        metavar="[CORPUS]...",
        argument=True,
    )
    out: Path | None = option(None, "Folder of the run; DIR/best and DIR/last are checkpoints.", shown="runs/CORPUS")
    overwrite: bool = option(False, "Replace an earlier run in that folder.", flag="--overwrite")
    resume: Path | None = option(
        None, "Go on with a run that was stopped, killed or ran out of disk; leave out all else.", metavar="RUN"
    )
    base: Path | None = option(
        None,
        "Train a trained network on; new characters join its vocabulary.",
        flag="--from",
        metavar="CHECKPOINT",
    )
    preset: str | None = option(
        None, "gpu: sizes and rates for three minutes of a GPU, not measured yet; an option given beside it wins."
    )
    overrides: PlanOverrides = field(default_factory=PlanOverrides)
    encoding: str = option("utf-8", "Text encoding of the corpus: utf-8, latin-1, cp1252, utf-16 …")
    on_decode_error: OnDecodeError = option(
        "fail", "What becomes of a file that is not of that encoding: fail, skip it, or replace such bytes by U+FFFD."
    )
    min_count: int | None = option(
        None,
        "Characters rarer than this are spelt in UTF-8 bytes; planned where there are very many different ones.",
        shown="1, or planned",
        range=Range(1, float("inf"), "a whole number from 1"),
    )
    split: str = option(DEFAULT, IN_WORDS)
    dtype: WeightsDtype = option("float32", "Weights on disk; float16 halves the file.", flag="--weights")
    device: str = option("auto", "auto, cpu or cuda.")
    tensorboard: bool = option(False, "Also write a TensorBoard log into the run.", flag="--tensorboard")
    command: tuple[str, ...] = ("unroll", "train")

    def __post_init__(self) -> None:
        check_ranges(self, Request)
        shares_of(self.split)


def run_folder(request: Request) -> Path:
    """Where the run goes: a folder that can be made and written, or one that is there and can be written.

    Raises TrainingError where there can be none, and rather than write over an earlier run, or what is no run.
    """
    if request.out is not None:
        _check_out(request.out, request.overwrite)
        return request.out
    first = request.corpus[0] if request.corpus else "reference"
    stem = "stdin" if first == "-" else _safe(Path(first).resolve().name.split(".")[0]) or "run"
    numbers = (Path("runs") / (stem if number == 1 else f"{stem}-{number}") for number in itertools.count(1))
    out = next(folder for folder in numbers if not os.path.lexists(folder))
    _check_writable(out)
    return out


def _safe(stem: str) -> str:
    """A file's name as a folder's, which may be named in other files and grow by some letters."""
    return "".join(one if one.isprintable() else "_" for one in os.fsdecode(os.fsencode(stem)[:LONGEST_STEM]))


def _check_out(out: Path, overwrite: bool) -> None:
    from model.checkpoint import CONFIG  # not for those who ask for help

    if os.path.lexists(out) and not os.path.isdir(out):
        raise TrainingError(f"{out} is a file, not a folder for a run; choose another --out.")
    _check_writable(out)
    there = [out / name for name in CHECKPOINTS if os.path.lexists(out / name)]
    if there and not overwrite:
        raise TrainingError(
            f"{out} holds the checkpoints of an earlier run; choose another --out, or --overwrite them."
        )
    for folder in there:
        if not os.path.isfile(folder / CONFIG) and not (os.path.isdir(folder) and not os.listdir(folder)):
            raise TrainingError(f"{folder} is not a checkpoint and is not replaced by one; choose another --out.")


def _check_writable(out: Path) -> None:
    """Raise TrainingError where a folder cannot be made or written, before hours are spent on what goes there."""
    nearest = out
    try:
        while not os.path.isdir(nearest):
            if os.path.lexists(nearest):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if len(os.fsencode(nearest.name)) > LONGEST_NAME:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            if nearest == nearest.parent:
                break
            nearest = nearest.parent
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        at = "" if nearest == out else f": {nearest}"
        raise TrainingError(
            f"The run cannot be written to {out} ({error.strerror}{at}); choose a folder that can be, with --out."
        ) from error
