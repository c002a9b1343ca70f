"""What a user asks of a run: on which text, with which overrides, where to and on which device."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint.checkpoint import WeightsDtype
from model.errors import TrainingError
from training.data.split import DEFAULT
from training.planning.plan import PlanOverrides


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks of a run.

    names: files, folders, "-"; none = the reference prose Python carries.
    out: the run's folder; None = one of its own below runs/, named after the corpus.
    overwrite: replace the checkpoints of an earlier run in it. base: a checkpoint to train on.
    min_count: characters rarer than this are spelt in bytes. dtype: of the weights on disk.
    tensorboard: also write a TensorBoard log. command: the command line, for the card.
    """

    names: tuple[str, ...]
    overrides: PlanOverrides
    out: Path | None = None
    overwrite: bool = False
    base: Path | None = None
    encoding: str = "utf-8"
    min_count: int = 1
    scheme: str = DEFAULT
    dtype: WeightsDtype = "float32"
    device: str = "auto"
    tensorboard: bool = False
    command: tuple[str, ...] = ("unroll", "train")


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
    first = request.names[0] if request.names else "reference"
    stem = "stdin" if first == "-" else Path(first).resolve().name.split(".")[0] or "run"
    numbers = (Path("runs") / (stem if number == 1 else f"{stem}-{number}") for number in itertools.count(1))
    return next(folder for folder in numbers if not folder.exists())
