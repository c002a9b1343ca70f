"""The folder of a run: which it is, and whether it can be written."""

import errno
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from model.errors import TrainingError
from training.planning.train_options import TrainOptions

CHECKPOINTS = ("best", "last")  # in a run's folder
LONGEST_STEM = 100  # bytes of a run's own name
LONGEST_NAME = 255 - len("..previous")  # bytes of a name, on every disk in use, with what is put around it for a moment


def run_folder(options: TrainOptions) -> Path:
    """Where the run goes: a folder that can be made and written, or one that is there and can be written.

    Raises TrainingError where there can be none, and rather than write over an earlier run, what is no run, or a
    checkpoint that this run learns from.
    """
    if options.out is not None:
        _check_out(options.out, options.overwrite)
        _check_sources(options.out, options)
        return options.out
    out = next(folder for folder in _folders(options) if not os.path.lexists(folder))
    _check_writable(out)
    return out


def newest_folder(options: TrainOptions) -> Path | None:
    """The folder that the last run of the same corpus got where none was named; None where there was no run."""
    there = list(itertools.takewhile(os.path.lexists, _folders(options)))
    return there[-1] if there else None


def _folders(options: TrainOptions) -> Iterator[Path]:
    """Folders for runs of a corpus, in the order in which they are taken."""
    first = options.corpus[0] if options.corpus else "reference"
    stem = "stdin" if first == "-" else _safe(Path(first).resolve().name.split(".")[0]) or "run"
    return (Path("runs") / (stem if number == 1 else f"{stem}-{number}") for number in itertools.count(1))


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


def _check_sources(out: Path, options: TrainOptions) -> None:
    """Raise TrainingError where the run would replace a checkpoint that it needs to be resumed."""
    from model.checkpoint import named_checkpoint

    replaced = {(out / name).resolve() for name in CHECKPOINTS}
    for flag, source in (("--from", options.base), *(("--teacher", one) for one in options.teachers)):
        if source is not None and named_checkpoint(source).resolve() in replaced:
            raise TrainingError(
                f"The run would replace {source}, which {flag} names and a resumed run needs; choose another --out."
            )


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
