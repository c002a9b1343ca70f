"""A trained model on disk: a folder of configuration, weights, vocabulary and card, written whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from model.config import NetworkConfig
from model.errors import CheckpointError, ParameterError, TokenizerError
from model.tokenizer import Tokenizer

FORMAT = "unroll-checkpoint"
VERSION = 1
BUNDLED = Path(__file__).parent / "bundled"

CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"

# A configuration is a page and a vocabulary of all Unicode some 60 MB: anything larger is not ours to read.
LARGEST = {CONFIG: 1 << 20, TOKENIZER: 1 << 26, CARD: 1 << 20}
LARGEST_HEADER = 1 << 20

Precision = Literal["float32", "float16"]
STORED: dict[Precision, str] = {"float32": "F32", "float16": "F16"}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything needed to continue a text.

    config: the network's shape.
    tokenizer: its vocabulary.
    tensors: the weights by name, float32, shapes as `config.tensor_shapes()` has them.
    unseen: ids (k,) that never occurred in training; they are never generated.
    training: how it was made and how good it is, as JSON values; empty when unknown.
    card: the same for a human reader, as Markdown.
    """

    config: NetworkConfig
    tokenizer: Tokenizer
    tensors: Mapping[str, NDArray[np.float32]]
    unseen: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    training: Mapping[str, Any] = field(default_factory=dict)
    card: str = ""

    def seen(self) -> NDArray[np.int64]:
        """Ids (S,) that may be generated, ascending."""
        return np.setdiff1d(np.arange(self.config.vocabulary), self.unseen)


def save(checkpoint: Checkpoint, folder: Path, precision: Precision = "float32") -> None:
    """Write a checkpoint folder under a temporary name and rename it, replacing one that was there.

    precision: how weights are stored; float16 halves the file and rounds each weight to 11 bits.
    Raises CheckpointError when the disk refuses, or when something other than a checkpoint stands there; what was
    there before is then still there.
    """
    files = _files(checkpoint, precision)
    try:
        if folder.exists() and not (folder / CONFIG).is_file() and not _is_empty(folder):
            raise CheckpointError(f"{folder} is not a checkpoint and is not replaced by one; choose another folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unroll-", dir=folder.parent))
        try:
            for name, content in files.items():
                _write(temporary / name, content)
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


def _files(checkpoint: Checkpoint, precision: Precision) -> dict[str, bytes]:
    config = {
        "format": FORMAT,
        "format_version": VERSION,
        "weights": precision,
        "network": checkpoint.config.to_json(),
        "unseen_ids": _to_ranges(checkpoint.unseen),
        "training": dict(checkpoint.training),
    }
    tensors = {name: np.ascontiguousarray(value, precision) for name, value in checkpoint.tensors.items()}
    return {
        CONFIG: (json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        WEIGHTS: safetensors.numpy.save(tensors, metadata={"format": FORMAT}),
        TOKENIZER: checkpoint.tokenizer.to_json().encode(),
        CARD: checkpoint.card.encode(),
    }


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


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


def _aside(folder: Path) -> Path:
    """Where a checkpoint waits for the moment in which its successor takes its name."""
    return folder.with_name(f".{folder.name}.previous")


def load(folder: Path) -> Checkpoint:
    """Read and check a checkpoint folder; nothing in it is executed and nothing it declares is believed unchecked.

    Raises CheckpointError with a sentence that says what is wrong with a missing, truncated, foreign or
    tampered folder, before any array of the declared size is made.
    """
    try:
        return _load(folder)
    except OSError as error:
        raise CheckpointError(f"The checkpoint {folder} could not be read ({error.strerror or error}).") from error


def _load(folder: Path) -> Checkpoint:
    if not folder.is_dir():
        aside = _aside(folder)
        remedy = f"{aside} holds the one before; rename it" if aside.is_dir() else "make one with `unroll train`"
        raise CheckpointError(f"There is no checkpoint folder at {folder}; {remedy}.")
    written = _read_config(folder)
    try:
        config = NetworkConfig.from_json(written.get("network"))
        tokenizer = Tokenizer.from_json(_read_text(folder, TOKENIZER))
    except (ParameterError, TokenizerError) as error:
        raise CheckpointError(f"The checkpoint {folder} is damaged or foreign: {error}") from error
    if tokenizer.size != config.vocabulary:
        raise CheckpointError(
            f"The checkpoint {folder} does not fit together: {TOKENIZER} has {tokenizer.size:,} ids, "
            f"{CONFIG} says {config.vocabulary:,}; restore both files from the same checkpoint."
        )
    unseen = _from_ranges(written.get("unseen_ids"), config.vocabulary, folder)
    training = written.get("training")
    return Checkpoint(
        config=config,
        tokenizer=tokenizer,
        tensors=_read_weights(folder, config, written.get("weights")),
        unseen=unseen,
        training=training if isinstance(training, dict) else {},
        card=_read_text(folder, CARD) if (folder / CARD).is_file() else "",
    )


def _read_text(folder: Path, name: str) -> str:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"The checkpoint {folder} has no {name}; restore it, or train again.")
    if path.stat().st_size > LARGEST[name]:
        raise CheckpointError(f"{path} is larger than any {name} Unroll writes; it is not a checkpoint's.")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text at byte {error.start}; the file is damaged.") from error


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        written = json.loads(_read_text(folder, CONFIG))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / CONFIG} is not JSON; the file is damaged.") from error
    if not isinstance(written, dict) or written.get("format") != FORMAT:
        raise CheckpointError(f"{folder} is not a checkpoint of Unroll; its {CONFIG} does not say {FORMAT!r}.")
    if written.get("format_version") != VERSION:
        raise CheckpointError(
            f"The checkpoint {folder} has format version {brief(written.get('format_version'))}; "
            f"this Unroll reads version {VERSION}. Install a matching Unroll, or train again."
        )
    return written


def _read_weights(folder: Path, config: NetworkConfig, precision: Any) -> dict[str, NDArray[np.float32]]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"The checkpoint {folder} has no {WEIGHTS}; restore it, or train again.")
    if precision not in tuple(STORED):  # a tuple: what a file says need not be hashable
        raise CheckpointError(
            f"{folder / CONFIG} says weights are {brief(precision)}; Unroll reads float32 and float16."
        )
    width = 4 if precision == "float32" else 2
    size, expected = path.stat().st_size, config.parameters() * width
    if not expected < size <= expected + LARGEST_HEADER:
        raise CheckpointError(
            f"{path} has {size:,} bytes, but {CONFIG} asks for {expected:,} of weights and a header; "
            "the file is truncated or belongs to another checkpoint."
        )
    shapes = config.tensor_shapes()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            _check_header(path, file, shapes, STORED[precision])
            tensors = {name: file.get_tensor(name).astype(np.float32) for name in shapes}
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or not a safetensors file ({error}).") from error
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinity; the training run diverged. Train again.")
    return tensors


def _check_header(path: Path, file: Any, shapes: Mapping[str, tuple[int, ...]], stored: str) -> None:
    if set(file.keys()) != set(shapes):
        wrong = brief(sorted(set(file.keys()) ^ set(shapes)))
        raise CheckpointError(f"{path} lacks or should not have the tensors {wrong}; it belongs to another network.")
    for name, shape in shapes.items():
        declared = file.get_slice(name)
        found, dtype = tuple(declared.get_shape()), declared.get_dtype()
        if found != shape or dtype != stored:
            raise CheckpointError(
                f"{path}: {name} is {dtype} {found}, but {CONFIG} asks for {stored} {shape}; "
                "restore both files from the same checkpoint."
            )


def _to_ranges(ids: NDArray[np.int64]) -> list[list[int]]:
    """Ascending ids as [first, last] pairs: 200 unseen bytes take a line, not a page."""
    if not len(ids):
        return []
    runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
    return [[int(run[0]), int(run[-1])] for run in runs]


def _from_ranges(ranges: Any, vocabulary: int, folder: Path) -> NDArray[np.int64]:
    unseen = np.zeros(vocabulary, bool)
    try:
        for first, last in ranges:
            if type(first) is not int or type(last) is not int or not 0 <= first <= last < vocabulary:
                raise ValueError
            unseen[first : last + 1] = True
    except (TypeError, ValueError):
        raise CheckpointError(f"{folder / CONFIG}: unseen_ids are not ranges of ids; the file is damaged.") from None
    if unseen.all():
        raise CheckpointError(f"{folder / CONFIG}: unseen_ids leave nothing to generate; the file is damaged.")
    return np.flatnonzero(unseen)
