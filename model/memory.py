"""What a checkpoint takes in memory when it is loaded, counted from its configuration before anything is made.

A file may declare much: a vocabulary of a million ids at 64 units is 92 MB on disk, and its decoder looks up the input
of the first layer in a table of a row for each id, which alone is 1.1 GB. Counted is the moment at which most of it
stands at once: when the decoder is complete and the weights as they were read have not been dropped.
"""

import math
from dataclasses import dataclass
from typing import Literal

from model.cells.attention import OUTPUTS
from model.cells.spec import CELLS
from model.config import NetworkConfig, WeightsDtype

FLAG, VARIABLE = "--max-model-bytes", "UNROLL_MAX_MODEL_BYTES"
DEFAULT_MOST_BYTES = 1 << 30  # a network of 100 million weights takes two thirds of it
FEWEST_BYTES, LARGEST_MOST_BYTES = 1 << 20, 1 << 40
HELP = "Memory that loading the model may take, in bytes; a larger one is refused before it is made."

# Bytes of Python's for each id: in the vocabulary that is kept, and at most while it is read (its entry in JSON as a
# string, a number, a pair and a place in a table; the file's text stands beside them).
KEPT_OF_AN_ID, READ_OF_AN_ID, TEXT_OF_A_BYTE = 96, 300, 4
PLACES_OF_CHARACTERS = 0x110002  # entries of the tokenizer's table, at most
COLUMNS, GROUP = 16, 4  # the kernel pads a product's outputs and inputs to multiples of these
TILE, BLOCK = 64, 4 << 20  # columns that are padded, and bytes that are made at once, while weights are rounded
OF_AN_OUTPUT = 24  # scale, bias and start, as they are rounded and as the kernel has them
HOLES = 16  # one byte for so many that are counted lies between what the allocator has given out
OF_A_SLOT = 256  # its parameters as the kernel has them
OF_A_SLICE = 64  # rows × steps whose logits of every id are scored at once


@dataclass(frozen=True, kw_only=True)
class LoadLimit:
    """How much memory loading a checkpoint may take, and what else follows from its shape where it is used.

    most_bytes: None for any. arithmetic: of the decoder. compiled: whether a kernel steps.
    rows: texts that the decoder has slots for, in all threads together. threads: that step.
    of_an_id: bytes that the caller will make for each id of the vocabulary.
    """

    most_bytes: int | None = DEFAULT_MOST_BYTES
    arithmetic: Literal["int8", "fp32"] = "int8"
    compiled: bool = True
    rows: int = 1
    threads: int = 1
    of_an_id: int = 0


UNLIMITED = LoadLimit(most_bytes=None)


@dataclass(frozen=True)
class LoadingBytes:
    """The bytes that loading takes: the parts that stand together at the end, and the peak while ids are read."""

    reading: int
    vocabulary: int
    weights: int
    decoder: int
    rows: int

    @property
    def peak(self) -> int:
        """The most that stands at once."""
        counted = max(self.reading, self.vocabulary + self.weights + self.decoder + self.rows)
        return counted + counted // HOLES

    def __str__(self) -> str:
        return (
            f"{self.peak:,} bytes (weights {self.weights:,}, decoder {self.decoder:,}, slots {self.rows:,}, vocabulary "
            f"{self.vocabulary:,}, and {self.reading:,} while that is read)"
        )

    @classmethod
    def of(
        cls, config: NetworkConfig, dtype: WeightsDtype, drawn: int, tokenizer: int, limit: LoadLimit
    ) -> "LoadingBytes":
        """Count what a checkpoint takes. drawn: ids that text is drawn from. tokenizer: bytes of its file."""
        ids = config.vocabulary
        table = PLACES_OF_CHARACTERS * (2 if ids < 1 << 16 else 4)
        shapes = config.tensor_shapes()
        # While they are read, one more of the largest stands in 16 bits; while they are compared, a byte for each.
        beside = max(map(math.prod, shapes.values())) * (2 if dtype == "float16" else 1)
        return cls(
            reading=ids * READ_OF_AN_ID + TEXT_OF_A_BYTE * tokenizer + table,
            vocabulary=ids * (KEPT_OF_AN_ID + limit.of_an_id) + table,
            weights=4 * config.parameters(),
            decoder=max(beside, _decoder(config, drawn, limit)),
            rows=_rows(config, drawn, limit),
        )


def _decoder(config: NetworkConfig, drawn: int, limit: LoadLimit) -> int:
    """The table of inputs; the products as they are rounded and as the kernel reads them; what is made on the way."""
    cell, hidden, heard = CELLS[config.cell], config.hidden, config.output_width()
    gates = cell.gates * hidden
    copied: list[tuple[int, int]] = []  # products by outputs and inputs: those that are copied in floats, too
    whole: list[tuple[int, int]] = [(gates, hidden), (config.vocabulary, heard)]
    if config.attention:
        whole.append((OUTPUTS, heard))
    if drawn < config.vocabulary:
        copied.append((drawn, heard))
    for _ in range(config.layers - 1):
        if cell.joined:
            copied.append((gates, 2 * hidden))
        else:
            whole += [(gates, hidden), (gates, hidden)]
    products = whole + copied
    one = 1 if limit.arithmetic == "int8" else 4
    rounded = sum(map(math.prod, products if one == 1 else copied)) * one
    padded = [
        _padded(outputs, COLUMNS) * inputs // hidden * _padded(hidden, GROUP) * (one if limit.compiled else 4)
        for outputs, inputs in products
    ]
    packed = sum(padded) + max(padded) + OF_AN_OUTPUT * sum(outputs for outputs, _ in products)
    columns = 2 * 8 * config.embedding * _padded(gates, TILE)  # of the first layer in float64, as they are and padded
    pointing = 4 * (config.vocabulary + 2 * config.attention) if config.attention else 0
    return 4 * config.vocabulary * gates + max(columns, rounded + packed) + 32 * config.vocabulary + pointing + BLOCK


def _rows(config: NetworkConfig, drawn: int, limit: LoadLimit) -> int:
    """States, the marks of ids that may begin a stop string, and each thread's scratch for sums and logits."""
    rows, threads, ids = limit.rows, limit.threads, config.vocabulary
    states = rows * (4 * config.state_layout().floats + ids + OF_A_SLOT)
    one = 1 if limit.arithmetic == "int8" else 4
    gates, heard = CELLS[config.cell].gates * config.hidden, config.output_width() + config.hidden
    sums = (2 * 4 * gates + one * heard) * max(rows, threads * OF_A_SLICE)
    logits = 4 * (rows + 4 * threads) * drawn
    scored = 4 * threads * OF_A_SLICE * ids if rows > 1 else 0  # by those that answer many, a slice at once
    if config.attention:
        sums += 4 * _padded(OUTPUTS, COLUMNS) * max(rows, threads * OF_A_SLICE)
        logits += 4 * threads * (config.attention + ids)
    return states + sums + logits + scored


def _padded(size: int, whole: int) -> int:
    return -(-size // whole) * whole
