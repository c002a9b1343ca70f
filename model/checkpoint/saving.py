"""Saves a checkpoint folder, whole or not at all."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from model.checkpoint.checkpoint import (
    CARD,
    CONFIG,
    FORMAT,
    TOKENIZER,
    VERSION,
    WEIGHTS,
    Checkpoint,
    _aside,
)
from model.config import WeightsDtype
from model.errors import CheckpointError
from model.files import write_synchronised


def save(checkpoint: Checkpoint, folder: Path, dtype: WeightsDtype = "float32") -> None:
    """Write a checkpoint folder under a temporary name and rename it, replacing one that was there.

    dtype: how weights are stored; float16 halves the file and rounds each weight to 11 bits.
    Raises CheckpointError when the disk refuses, or when the folder holds something other than a checkpoint; what
    was there before is then still there.
    """
    files = _files(checkpoint, dtype)
    try:
        if folder.exists() and not (folder / CONFIG).is_file() and not _is_empty(folder):
            raise CheckpointError(f"{folder} is not a checkpoint and is not replaced by one; choose another folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unroll-", dir=folder.parent))
        try:
            for name, content in files.items():
                write_synchronised(temporary / name, content)
            temporary.chmod(0o755)
            _replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {folder} could not be written ({error.strerror}); what was there before is kept."
        ) from error


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _files(checkpoint: Checkpoint, dtype: WeightsDtype) -> dict[str, bytes]:
    config = {
        "format": FORMAT,
        "format_version": VERSION,
        "weights": dtype,
        "network": checkpoint.config.to_json(),
        "unseen_ids": _to_ranges(checkpoint.unseen),
        "training": dict(checkpoint.training),
    }
    tensors = {name: np.ascontiguousarray(value, dtype) for name, value in checkpoint.tensors.items()}
    return {
        CONFIG: (json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        WEIGHTS: safetensors.numpy.save(tensors, metadata={"format": FORMAT}),
        TOKENIZER: checkpoint.tokenizer.to_json().encode(),
        CARD: checkpoint.card.encode(),
    }


def _replace(temporary: Path, folder: Path) -> None:
    """Put `temporary` where `folder` is; a folder that is not empty cannot be renamed over, so it steps aside."""
    aside = _aside(folder)
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    try:
        temporary.rename(folder)
    except BaseException:  # an interrupt, too, must leave a checkpoint under its name
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _to_ranges(ids: NDArray[np.int64]) -> list[list[int]]:
    """Ascending ids as [first, last] pairs: 200 unseen bytes take a line, not a page."""
    if not len(ids):
        return []
    runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
    return [[int(run[0]), int(run[-1])] for run in runs]
