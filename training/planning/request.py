"""What a user asks of a run: on which text, with which plan, where to and on which device."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

from model.config import WeightsDtype
from model.errors import TrainingError
from training.data.split_scheme import DEFAULT, IN_WORDS, shares_of
from training.planning.option import Range, check_ranges, option
from training.planning.overrides import PlanOverrides


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
    min_count: int = option(
        1,
        "Characters rarer than this are spelt in UTF-8 bytes.",
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
    """Where the run goes. Raises TrainingError rather than write over the checkpoints of an earlier run."""
    if request.out is not None:
        if request.out.exists() and not request.out.is_dir():
            raise TrainingError(f"{request.out} is a file, not a folder for a run; choose another --out.")
        if not request.overwrite and any((request.out / name).exists() for name in ("best", "last")):
            raise TrainingError(
                f"{request.out} holds the checkpoints of an earlier run; choose another --out, or --overwrite them."
            )
        return request.out
    first = request.corpus[0] if request.corpus else "reference"
    stem = "stdin" if first == "-" else Path(first).resolve().name.split(".")[0] or "run"
    numbers = (Path("runs") / (stem if number == 1 else f"{stem}-{number}") for number in itertools.count(1))
    return next(folder for folder in numbers if not folder.exists())
