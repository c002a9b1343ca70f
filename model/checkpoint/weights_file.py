"""Weights in a safetensors file: a header that must be to the letter what the network asks for, then the numbers.

The format is eight bytes with the length of a header, the header in JSON, and the tensors one after the other
(https://github.com/huggingface/safetensors, "Format"). Which tensors there must be, of which shape and type, is known
before the file is opened, so nothing it declares decides how much is read or made; it can only agree. The numbers are
read, not mapped: a map of a file that is cut meanwhile ends the process, and its numbers could change after the check.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoint.untrusted_files import changed, count_unwritten, damaged
from model.errors import CheckpointError
from model.strict_json import parse_json

Shapes = Mapping[str, tuple[int, ...]]

LENGTH = 8  # bytes of the header's length, little-endian
LARGEST_HEADER = 1 << 16  # the largest network's header has 9 kB
METADATA = "__metadata__"

# Weights of a trained network stay below a thousand. Up to here no sum of products leaves what a float32 holds, with
# the widest layers there may be and in 8 bits or floats alike; above, a state would be infinite, and then no number.
LARGEST_WEIGHT = 1e9


class WeightsFile:
    """An open safetensors file whose header says what was expected; its numbers have not been read yet.

    file: from its beginning. path: its name, for errors.
    shapes: of every tensor, all numbers positive. dtype: of all of them, "F32" or "F16".
    Raises CheckpointError on a file of another size, with another header, or that was never written as a whole.
    """

    def __init__(self, file: BufferedReader, path: Path, shapes: Shapes, dtype: str) -> None:
        self._file, self._path, self._shapes = file, path, shapes
        self._stored = np.dtype({"F32": "<f4", "F16": "<f2"}[dtype])
        size = os.fstat(file.fileno()).st_size
        expected = sum(math.prod(shape) for shape in shapes.values()) * self._stored.itemsize
        if not expected + LENGTH < size <= expected + LENGTH + LARGEST_HEADER:
            raise CheckpointError(
                f"{path} has {size:,} bytes, but config.json asks for {expected:,} of weights and a header; the file "
                "is truncated or belongs to another checkpoint; restore it, or train again."
            )
        if count_unwritten(file) > size // 2:  # weights of ids that training never saw may be zeros, and left out
            raise CheckpointError(
                f"{path} has {size:,} bytes of which most were never written, as by a download cut short; "
                "restore it, or train again."
            )
        self._sha256 = hashlib.sha256()
        self._in_file = self._read_header(size - expected - LENGTH, dtype)

    def read(self, digest: str | None = None) -> tuple[dict[str, NDArray[np.float32]], str]:
        """Every tensor by name, in float32, and the sha256 of all that was read, which is the whole file.

        digest: what it must be; None where nobody knows. Raises CheckpointError where it is another, and on numbers no
        training ends with.
        """
        tensors = {name: self._tensor(self._shapes[name]) for name in self._in_file}
        found = self._sha256.hexdigest()
        if digest is not None and found != digest:
            raise damaged(self._path)
        for name, tensor in tensors.items():
            self._check_numbers(name, tensor)
        return {name: tensors[name] for name in self._shapes}, found

    def _read_header(self, length: int, dtype: str) -> list[str]:
        """The tensors as they follow on each other in the file. length: of the header, as the file's size has it."""
        written = self._file.read(LENGTH + length)
        self._sha256.update(written)
        declared = int.from_bytes(written[:LENGTH], "little")
        if declared != length:
            raise CheckpointError(
                f"{self._path} says its header has {declared:,} bytes, but {length:,} are left for one; the file is "
                "truncated or damaged, restore it or train again."
            )
        try:
            header = parse_json(written[LENGTH:].decode("utf-8"))
        except ValueError as error:  # and UnicodeDecodeError, which is one
            raise self._damaged(str(error)) from error
        if not isinstance(header, dict):
            raise self._damaged("it is no table")
        header.pop(METADATA, None)
        if wrong := sorted(header.keys() ^ self._shapes.keys()):
            raise CheckpointError(
                f"{self._path} lacks or should not have the tensors {brief(wrong)}; it belongs to another network. "
                "Restore both files from the same checkpoint."
            )
        return self._order(header, dtype)

    def _order(self, header: Mapping[str, Any], dtype: str) -> list[str]:
        """Check what is said of each tensor, and that they follow on each other with nothing between or shared."""
        names, at = sorted(self._shapes, key=lambda name: _begin(header[name])), 0
        for name in names:
            shape = self._shapes[name]
            size = math.prod(shape) * self._stored.itemsize
            right = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
            if _spelled(header[name]) != _spelled(right):
                raise CheckpointError(
                    f"{self._path}: {name} is {brief(header[name])}, but config.json asks for {dtype} {shape} "
                    f"in bytes {at:,} to {at + size:,}; restore both files from the same checkpoint."
                )
            at += size
        return names

    def _tensor(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The tensor that comes next in the file."""
        stored = np.empty(shape, self._stored)
        written = stored.reshape(-1).view(np.uint8).data
        if self._file.readinto(written) != stored.nbytes:
            raise changed(self._path)
        self._sha256.update(written)
        return stored.astype(np.float32, copy=False)

    def _check_numbers(self, name: str, tensor: NDArray[np.float32]) -> None:
        # the least and the largest of numbers with a NaN among them are NaN, and a comparison with NaN is false
        if not (tensor.min() >= -LARGEST_WEIGHT and tensor.max() <= LARGEST_WEIGHT):
            raise CheckpointError(
                f"{self._path}: {name} holds NaN, infinity or a weight beyond ±{LARGEST_WEIGHT:,.0f}; "
                "the training run diverged. Train again."
            )

    def _damaged(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self._path} is truncated or not a safetensors file of ours: of its header, {reason}; "
            "restore it, or train again."
        )


def _begin(declared: Any) -> int:
    """Where a tensor says that it begins; -1 where it says something else, so that it is sorted first and refused."""
    offsets = declared.get("data_offsets") if isinstance(declared, dict) else None
    begin = offsets[0] if isinstance(offsets, list) and offsets else None
    return begin if type(begin) is int else -1


def _spelled(value: Any) -> str:
    """JSON values compared as they are written: 1, 1.0 and true are equal in Python."""
    return json.dumps(value, sort_keys=True)
