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
import safetensors.numpy
from numpy.typing import NDArray

from model.config import NetworkConfig
from model.errors import CheckpointError, ParameterError, TokenizerError
from model.stored_weights import StoredWeights
from model.tokenizer import Tokenizer
from model.untrusted import open_inside, parse_json, read_text

FORMAT = "unroll-checkpoint"
VERSION = 1
BUNDLED = Path(__file__).parent / "bundled"

CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"

# A configuration is a page, and so is a card: anything larger is not ours to read. A vocabulary takes its 4 kB, and a
# line for each id, at most 37 characters however a program lays it out that read it and wrote it again.
LARGEST = 1 << 20
LARGEST_TOKENIZER, LARGEST_LINE = 1 << 13, 48
MOST_SETTINGS = 64  # entries of a tokenizer.json beside its ids: some twenty, and a comma may be a character

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

    Each file is opened once and judged by what was read from it; no link out of the folder is followed
    (`model/untrusted.py`). The sizes of all must fit the network before the first number is read.
    Raises CheckpointError with a sentence that says what is wrong with a missing, truncated, foreign or
    tampered folder, before any array of the declared size is made.
    """
    try:
        if not folder.is_dir():
            aside = _aside(folder)
            remedy = f"{aside} holds the one before; rename it" if aside.is_dir() else "make one with `unroll train`"
            raise CheckpointError(f"There is no checkpoint folder at {folder}; {remedy}.")
        before = folder.stat()
        checkpoint = _load(folder)
        if not os.path.samestat(before, folder.stat()):
            raise CheckpointError(f"{folder} was replaced by another while it was read; load the checkpoint again.")
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {folder} could not be read ({error.strerror or error}); see that it is there and that "
            "you may read it, and load it again."
        ) from error
    return checkpoint


def _load(folder: Path) -> Checkpoint:
    written = _read_config(folder)
    try:
        config = NetworkConfig.from_json(written.get("network"))
    except ParameterError as error:
        raise CheckpointError(
            f"{folder / CONFIG} is damaged or foreign: {error} Restore it, or train again."
        ) from error
    unseen = _from_ranges(written.get("unseen_ids"), config.vocabulary, folder)
    precision = written.get("weights")
    if precision not in tuple(STORED):  # a tuple: what a file says need not be hashable
        raise CheckpointError(
            f"{folder / CONFIG} says weights are {brief(precision)}; Unroll reads float32 and float16. Train again."
        )
    with open_inside(folder, WEIGHTS) as file:
        weights = StoredWeights(file, folder / WEIGHTS, config.tensor_shapes(), STORED[precision])
        return Checkpoint(
            config=config,
            tokenizer=_read_tokenizer(folder, config.vocabulary),
            tensors=weights.read(),
            unseen=unseen,
            training=written.get("training", {}),
            card=read_text(folder, CARD, LARGEST) if os.path.lexists(folder / CARD) else "",
        )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        written = parse_json(read_text(folder, CONFIG, LARGEST))
    except ValueError as error:
        raise CheckpointError(
            f"{path} is damaged, or not JSON as Unroll writes it ({error}); restore it, or train again."
        ) from error
    if not isinstance(written, dict) or written.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} is not a checkpoint of Unroll; its {CONFIG} does not say {FORMAT!r}. Name another folder."
        )
    version = written.get("format_version")
    if type(version) is not int or version != VERSION:
        raise CheckpointError(
            f"The checkpoint {folder} has format version {brief(version)}; "
            f"this Unroll reads version {VERSION}. Install a matching Unroll, or train again."
        )
    if not isinstance(written.get("training", {}), dict):
        raise CheckpointError(
            f"{path}: training is {brief(written['training'])}, not a table; the file is damaged, restore it."
        )
    return written


def _read_tokenizer(folder: Path, vocabulary: int) -> Tokenizer:
    text = read_text(folder, TOKENIZER, LARGEST_TOKENIZER + LARGEST_LINE * vocabulary)
    try:
        if text.count(",") > vocabulary + MOST_SETTINGS:
            raise TokenizerError(f"This tokenizer.json has entries for more than {vocabulary:,} ids.")
        tokenizer = Tokenizer.from_json(text)
    except TokenizerError as error:
        raise CheckpointError(
            f"{folder / TOKENIZER} is damaged or foreign: {error} Restore it, or train again."
        ) from error
    if tokenizer.size != vocabulary:
        raise CheckpointError(
            f"The checkpoint {folder} does not fit together: {TOKENIZER} has {tokenizer.size:,} ids, "
            f"{CONFIG} says {vocabulary:,}; restore both files from the same checkpoint."
        )
    return tokenizer


def _to_ranges(ids: NDArray[np.int64]) -> list[list[int]]:
    """Ascending ids as [first, last] pairs: 200 unseen bytes take a line, not a page."""
    if not len(ids):
        return []
    runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
    return [[int(run[0]), int(run[-1])] for run in runs]


def _from_ranges(ranges: Any, vocabulary: int, folder: Path) -> NDArray[np.int64]:
    """The ids of ranges as `_to_ranges` makes them: each after the one before, so that they take no time together."""
    unseen = np.zeros(vocabulary, bool)
    after = 0
    try:
        for first, last in ranges:
            if type(first) is not int or type(last) is not int or not after <= first <= last < vocabulary:
                raise ValueError
            unseen[first : last + 1] = True
            after = last + 1
    except (TypeError, ValueError):
        raise CheckpointError(
            f"{folder / CONFIG}: unseen_ids are not ranges of ids; the file is damaged, restore it or train again."
        ) from None
    if unseen.all():
        raise CheckpointError(
            f"{folder / CONFIG}: unseen_ids leave nothing to generate; the file is damaged, restore it or train again."
        )
    return np.flatnonzero(unseen)
