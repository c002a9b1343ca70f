"""Changes to the files of a checkpoint folder, and the sentence that refuses them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from model.checkpoint import CONFIG, WEIGHTS, load
from model.checkpoint.digests import ENTRY
from model.errors import CheckpointError

SENTENCE = r"^[^\n]{10,2000}\.$"


def refused(folder: Path, match: str = SENTENCE) -> None:
    with pytest.raises(CheckpointError, match=SENTENCE) as caught:
        load(folder)
    assert caught.match(match)


def without_digests(folder: Path) -> None:
    """Make it a checkpoint of before checkpoints had digests, or of a stranger who leaves them out."""
    written = json.loads((folder / CONFIG).read_text("utf-8"))
    written.pop(ENTRY, None)
    (folder / CONFIG).write_text(json.dumps(written, indent=2, ensure_ascii=False), "utf-8")


def change_config(folder: Path, **change: Any) -> None:
    written = json.loads((folder / CONFIG).read_text("utf-8"))
    (folder / CONFIG).write_text(json.dumps({**written, **change}), "utf-8")


def change_network(folder: Path, **change: Any) -> None:
    written = json.loads((folder / CONFIG).read_text("utf-8"))
    change_config(folder, network={**written["network"], **change})


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = dict(safetensors.numpy.load_file(folder / WEIGHTS))
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / WEIGHTS)


def change_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the weights' header and nothing else, padded so that the file keeps its size."""
    content = (folder / WEIGHTS).read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header)
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(written)) + written + content[8 + size :])
