"""A trained model as a value, and the names of the files it is stored in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import NetworkConfig, WeightsDtype
from model.text.tokenizer import Tokenizer

FORMAT = "unroll-checkpoint"
VERSION = 1
BUNDLED = Path(__file__).parents[1] / "bundled"

CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"

STORED: dict[WeightsDtype, str] = {"float32": "F32", "float16": "F16"}


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
        seen = np.ones(self.config.vocabulary, bool)
        seen[self.unseen] = False
        return np.flatnonzero(seen)


def _aside(folder: Path) -> Path:
    """Where a checkpoint waits for the moment in which its successor takes its name."""
    return folder.with_name(f".{folder.name}.previous")


def to_ranges(ids: NDArray[np.int64]) -> list[list[int]]:
    """Ascending ids as [first, last] pairs: 200 unseen bytes take a line, not a page."""
    if not len(ids):
        return []
    runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
    return [[int(run[0]), int(run[-1])] for run in runs]
