"""Saves a checkpoint folder, whole or not at all."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from model.checkpoint.checkpoint import (
    CARD,
    CONFIG,
    FORMAT,
    TOKENIZER,
    VERSION,
    WEIGHTS,
    Checkpoint,
    _aside,
    to_ranges,
)
from model.checkpoint.digests import sealed, sha256
from model.config import WeightsDtype
from model.errors import CheckpointError
from model.files import remedy, write_synchronised
from model.text.frame import PLAIN


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
            f"The checkpoint {folder} could not be written ({error.strerror}); what was there before is kept. To write "
            f"it, {remedy(error)}, or choose another folder."
        ) from error


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _files(checkpoint: Checkpoint, dtype: WeightsDtype) -> dict[str, bytes]:
    config: dict[str, Any] = {
        "format": FORMAT,
        "format_version": VERSION,
        "weights": dtype,
        "network": checkpoint.config.to_json(),
        "unseen_ids": to_ranges(checkpoint.unseen),
        "training": dict(checkpoint.training),
    }
    if checkpoint.tokenizer.frame != PLAIN:
        config["texts"] = checkpoint.tokenizer.frame.to_json()
    tensors = {name: np.ascontiguousarray(value, dtype) for name, value in checkpoint.tensors.items()}
    weights = safetensors.numpy.save(tensors, metadata={"format": FORMAT})
    tokenizer = checkpoint.tokenizer.to_json().encode()
    return {
        CONFIG: config_bytes(sealed(config, sha256(weights), sha256(tokenizer))),
        WEIGHTS: weights,
        TOKENIZER: tokenizer,
        CARD: checkpoint.card.encode(),
    }


def config_bytes(config: Mapping[str, Any]) -> bytes:
    """A config.json as it is written. Raises ValueError or TypeError on what JSON cannot say."""
    return (json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


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
