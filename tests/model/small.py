"""Checkpoints of random weights, small enough to be made in a test, and lively enough to write varied text."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.cells.spec import Cell
from model.checkpoint import Checkpoint
from model.config import NetworkConfig
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES

CHARACTERS = "\n abcdefghijklmnopqrstuvwxyz.,é明月😀"
CELLS: tuple[Cell, ...] = ("lstm", "gru", "rnn")
OPTIONS: tuple[dict[str, Any], ...] = ({}, {"skip": True}, {"skip": True, "attention": 16})
SIZE = BYTES + len(CHARACTERS)  # ids of the vocabulary
UNSEEN = np.arange(BYTES)  # as in a checkpoint whose training text had no rare characters: no byte was ever seen


def small_checkpoint(
    cell: Cell = "lstm",
    layers: int = 2,
    hidden: int = 24,
    embedding: int = 8,
    characters: str = CHARACTERS,
    unseen: NDArray[np.int64] = UNSEEN,
    seed: int = 0,
    skip: bool = False,
    attention: int = 0,
) -> Checkpoint:
    """A checkpoint whose weights are drawn from a seed, spread so that the state keeps moving."""
    tokenizer = Tokenizer(characters)
    config = NetworkConfig(
        cell=cell,
        layers=layers,
        hidden=hidden,
        embedding=embedding,
        vocabulary=tokenizer.size,
        skip=skip,
        attention=attention,
    )
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in config.tensor_shapes().items():
        spread = 1.5 / np.sqrt(shape[1]) if name.startswith("layers") and len(shape) == 2 else 0.5
        tensors[name] = random.normal(0, spread, shape).astype(np.float32)
    return Checkpoint(
        config=config,
        tokenizer=tokenizer,
        tensors=tensors,
        unseen=unseen,
        training={"corpus": {"name": "none"}, "validation_bits_per_character": 4.5},
        card="# A checkpoint of random weights\n",
    )
