"""Loads a checkpoint folder, every file of it distrusted until checked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoint.checkpoint import (
    BUNDLED,
    CARD,
    CONFIG,
    FORMAT,
    STORED,
    TOKENIZER,
    VERSION,
    WEIGHTS,
    Checkpoint,
    _aside,
    to_ranges,
)
from model.checkpoint.digests import ENTRY, Digests, of_model, recorded, sha256
from model.checkpoint.untrusted_files import damaged, open_inside, read_text
from model.checkpoint.weights_file import WeightsFile
from model.config import REMOVED, NetworkConfig, WeightsDtype, removed
from model.errors import CheckpointError, ParameterError, TokenizerError
from model.memory import FLAG, VARIABLE, LoadingBytes, LoadLimit
from model.strict_json import parse_json
from model.text.frame import PLAIN, TextFrame
from model.text.tokenizer import Tokenizer

# A configuration is a page, and so is a card: anything larger is not ours to read. A vocabulary takes its 4 kB, and a
# line for each id, at most 37 characters however a program lays it out that read it and wrote it again.
LARGEST = 1 << 20
LARGEST_TOKENIZER, LARGEST_LINE = 1 << 13, 48
MOST_SETTINGS = 64  # entries of a tokenizer.json beside its ids: some twenty, and a comma may be a character

# Entries of a config.json.
ENTRIES = ("format", "format_version", "weights", "network", "unseen_ids", "training", "texts", ENTRY)

OLDER = (
    "The checkpoint {folder} was made before checkpoints had digests: it loads, but damage to it may go unseen. "
    "`unroll evaluate --write-surprise` gives it digests."
)


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint and what is known of the folder it was read from.

    dtype: how its weights are stored. note: a sentence for the person who loads it; "" for nothing.
    """

    checkpoint: Checkpoint
    digests: Digests
    dtype: WeightsDtype
    note: str


def named_checkpoint(path: Path | None) -> Path:
    """The checkpoint folder that a path stands for: itself, a run's `best`, or the bundled one without a path."""
    if path is None:
        return BUNDLED
    best = path / "best"
    return best if os.path.isfile(best / CONFIG) and not os.path.isfile(path / CONFIG) else path


DEFAULT = LoadLimit()


def load(folder: Path, limit: LoadLimit = DEFAULT) -> Checkpoint:
    """Read and check a checkpoint folder; nothing in it is executed and nothing it declares is believed unchecked.

    Each file is opened once and judged by what was read from it; no link out of the folder is followed
    (`model/checkpoint/untrusted_files.py`). The sizes of all must fit the network before the first number is read.

    limit: on the memory that the checkpoint and its decoder may take (`model/memory.py`).
    Raises CheckpointError with a sentence that says what is wrong with a missing, truncated, foreign or
    tampered folder, or one beyond the limit, before any array of the declared size is made.
    """
    return read(folder, limit).checkpoint


def read(folder: Path, limit: LoadLimit = DEFAULT) -> StoredCheckpoint:
    """What `load` reads, with its digests. Raises CheckpointError where `load` does."""
    return _whole(folder, limit, numbers=True)


def check(folder: Path, limit: LoadLimit = DEFAULT) -> None:
    """Raise CheckpointError where `load` would, as far as that shows without reading the weights' numbers."""
    _whole(folder, limit, numbers=False)


def _whole(folder: Path, limit: LoadLimit, numbers: bool) -> StoredCheckpoint:
    """The checkpoint in a folder that nobody replaced meanwhile; without its weights where no numbers are wanted."""
    try:
        if not folder.is_dir():
            if folder.is_file():
                raise CheckpointError(f"{folder} is a file, not a checkpoint folder; name a folder or a run.")
            aside = _aside(folder)
            remedy = f"{aside} holds the one before; rename it" if aside.is_dir() else "make one with `unroll train`"
            raise CheckpointError(f"There is no checkpoint folder at {folder}; {remedy}.")
        before = folder.stat()
        stored = _load(folder, limit, numbers)
        if not os.path.samestat(before, folder.stat()):
            raise CheckpointError(f"{folder} was replaced by another while it was read; load the checkpoint again.")
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {folder} could not be read ({error.strerror or error}); see that it is there and that "
            "you may read it, and load it again."
        ) from error
    return stored


def _load(folder: Path, limit: LoadLimit, numbers: bool) -> StoredCheckpoint:
    written = _read_config(folder)
    right = _recorded(written, folder / CONFIG)
    if used := removed(written.get("network"), written.get("training", {}).get("plan")):
        raise _uses(folder, used)
    try:
        config = NetworkConfig.from_json(written.get("network"))
    except ParameterError as error:
        raise CheckpointError(
            f"{folder / CONFIG} is damaged or foreign: {error} Restore it, or train again."
        ) from error
    frame = _read_frame(written, folder)
    unseen = _from_ranges(written.get("unseen_ids"), config.vocabulary, folder)
    dtype = written.get("weights")
    if dtype not in tuple(STORED):  # a tuple: what a file says need not be hashable
        raise CheckpointError(
            f"{folder / CONFIG} says weights are {brief(dtype)}; Unroll reads float32 and float16. Train again."
        )
    with open_inside(folder, TOKENIZER) as file:
        size = min(os.fstat(file.fileno()).st_size, _largest_tokenizer(config.vocabulary))
    takes = LoadingBytes.of(config, dtype, config.vocabulary - len(unseen), size, limit)
    if limit.most_bytes is not None and takes.peak > limit.most_bytes:
        raise CheckpointError(
            f"Loading the checkpoint {folder} would take {takes} of memory, and may take {limit.most_bytes:,}; allow "
            f"it more with {FLAG} or {VARIABLE} (from Python with max_model_bytes), or name a smaller model."
        )
    with open_inside(folder, WEIGHTS) as file:
        weights = WeightsFile(file, folder / WEIGHTS, config.tensor_shapes(), STORED[dtype])
        tokenizer, of_tokenizer = _read_tokenizer(folder, config.vocabulary, right["tokenizer"] if right else None)
        tensors, of_weights = weights.read(right["weights"] if right else None) if numbers else ({}, "")
        # What a run leaves that was killed says nothing of its plan.
        if numbers and np.array_equal(tensors["embedding.weight"], tensors["out.weight"]):
            raise _uses(folder, "tied weights")
        checkpoint = Checkpoint(
            config=config,
            tokenizer=tokenizer.framed(frame),
            tensors=tensors,
            unseen=unseen,
            training=written.get("training", {}),
            card=read_text(folder, CARD, LARGEST) if os.path.lexists(folder / CARD) else "",
        )
    digests = Digests(
        of_model(config, to_ranges(unseen), of_weights, of_tokenizer, frame),
        of_weights,
        of_tokenizer,
        right is not None,
    )
    return StoredCheckpoint(checkpoint, digests, dtype, "" if right else OLDER.format(folder=folder))


def _uses(folder: Path, used: str) -> CheckpointError:
    return CheckpointError(f"The checkpoint {folder} uses {used}, {REMOVED}")


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


def _recorded(written: dict[str, Any], path: Path) -> Mapping[str, str] | None:
    """The digests that a configuration carries and matches; None in one of before checkpoints had them."""
    if strange := [name for name in written if name not in ENTRIES]:  # or a damaged name would be an older version's
        raise CheckpointError(
            f"{path} has entries that this Unroll does not know: {brief(strange)}; the file is damaged, or of a later "
            "version. Restore it, or install a matching Unroll."
        )
    try:
        return recorded(written)
    except ValueError as error:
        raise CheckpointError(
            f"{path} is damaged: {error}; restore it, or train again. Where somebody changed it on purpose, take the "
            f"entry {ENTRY} out of it."
        ) from error


def _largest_tokenizer(vocabulary: int) -> int:
    """Bytes of the file, at most."""
    return LARGEST_TOKENIZER + LARGEST_LINE * vocabulary


def _read_frame(written: dict[str, Any], folder: Path) -> TextFrame:
    """How the texts of the model begin and end; an older configuration says nothing of it."""
    try:
        return TextFrame.from_json(written["texts"]) if "texts" in written else PLAIN
    except ValueError as error:
        raise CheckpointError(
            f"{folder / CONFIG}: texts are damaged ({error}); restore the file, or train again."
        ) from error


def _read_tokenizer(folder: Path, vocabulary: int, digest: str | None) -> tuple[Tokenizer, str]:
    """The tokenizer of that number of ids, and the sha256 of its file, which must be `digest` where there is one."""
    text = read_text(folder, TOKENIZER, _largest_tokenizer(vocabulary))
    found = sha256(text.encode())
    if digest is not None and found != digest:
        raise damaged(folder / TOKENIZER)
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
    return tokenizer, found


def _from_ranges(ranges: Any, vocabulary: int, folder: Path) -> NDArray[np.int64]:
    """The ids of ranges as `to_ranges` makes them: each after the one before, so that they take no time together."""
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
