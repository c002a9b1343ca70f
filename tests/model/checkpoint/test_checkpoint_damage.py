"""Damaged, foreign and hostile checkpoint folders: each refused with a sentence, none with any other exception."""

import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoint import CARD, CONFIG, TOKENIZER, WEIGHTS, load
from model.errors import CheckpointError
from model.text.tokenizer import Tokenizer
from tests.model.damage import change_config, change_header, change_network, change_tensors, refused, without_digests
from tests.model.small import SIZE, small_checkpoint

GIANT = 2**40


@pytest.fixture
def folder(checkpoint_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small checkpoint to do damage to, without digests: what is found without them."""
    copy = Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))
    without_digests(copy)
    return copy


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "There is no checkpoint folder at .*nowhere; make one with `unroll train`")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "file is a file, not a checkpoint folder; name a folder")
    refused(tmp_path / "file" / "inside", "no checkpoint folder")
    refused(tmp_path / ("x" * 300))
    refused(tmp_path, "has no config.json")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, TOKENIZER])
def test_a_missing_or_empty_file_or_a_folder_in_its_place_is_refused(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"")
    refused(folder)
    (folder / name).unlink()
    refused(folder, f"has no {name}; restore it, or train again")
    (folder / name).mkdir()
    refused(folder, f"{name} is a folder, not a file; put the checkpoint's own {name} there")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, TOKENIZER])
def test_a_file_truncated_anywhere_is_refused(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    middle = [len(content) * part // 10 for part in range(1, 10)]
    for size in (1, 7, 8, 9, 64, *middle, len(content) - 8, len(content) - 3):
        (folder / name).write_bytes(content[:size])
        refused(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, TOKENIZER])
def test_a_file_of_other_content_is_refused(name: str, folder: Path) -> None:
    size = (folder / name).stat().st_size
    for content in (b"\0", b"\xff", b"[", b"{", b"\x89PNG\r\n\x1a\n"):
        (folder / name).write_bytes((content * size)[:size])
        refused(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None, [], 10**30, [[[[]]]]])
def test_another_format_version_is_refused(version: Any, folder: Path) -> None:
    change_config(folder, format_version=version)
    refused(folder, r"has format version .+; this Unroll reads version 1\. Install a matching Unroll, or train again")


@pytest.mark.parametrize("change", [{"format": "pytorch"}, {"format": None}, {"format": ["unroll-checkpoint"]}])
def test_a_configuration_of_another_program_is_refused(change: dict[str, Any], folder: Path) -> None:
    change_config(folder, **change)
    refused(folder, "is not a checkpoint of Unroll")


@pytest.mark.parametrize(
    "text", ["null", "[]", "3", '"x"', "[" * 200_000, '{"format": ' + "9" * 5_000 + "}", "{'a': 1}"]
)
def test_a_configuration_that_is_no_table_is_refused(text: str, folder: Path) -> None:
    (folder / CONFIG).write_text(text)
    refused(folder)


@pytest.mark.parametrize("depth", [100, 900, 970, 980, 990, 995, 5_000])
@pytest.mark.parametrize("key", ["format", "format_version", "weights", "network", "unseen_ids", "cell", "hidden"])
def test_deep_nesting_anywhere_in_the_configuration_is_refused(key: str, depth: int, folder: Path) -> None:
    (change_network if key in ("cell", "hidden") else change_config)(folder, **{key: "@"})
    text = (folder / CONFIG).read_text().replace('"@"', "[" * depth + "]" * depth)
    (folder / CONFIG).write_text(text)
    refused(folder)


def test_files_larger_than_any_of_ours_are_refused_unread(folder: Path) -> None:
    for name in (TOKENIZER, CONFIG):
        with (folder / name).open("r+b") as file:
            file.truncate(GIANT)
        refused(folder, f"is larger than any {name} Unroll writes")


@pytest.mark.parametrize(
    "change",
    [
        {"cell": "gru"},
        {"cell": "transformer"},
        {"cell": None},
        {"cell": {}},
        {"layers": 1},
        {"layers": 3},
        {"layers": 10**30},
        {"layers": "2"},
        {"hidden": 25},
        {"hidden": 8192},
        {"hidden": -24},
        {"hidden": 24.0},
        {"embedding": 9},
        {"embedding": True},
        {"vocabulary": SIZE + 1},
        {"vocabulary": 1_114_368},
        {"vocabulary": 1},
        {"skip": True},
        {"skip": 0},
        {"skip": "no"},
        {"zoneout": 1},
        {"zoneout": "none"},
        {"zoneout": False},
        {"attention": 1},
    ],
    ids=str,
)
def test_a_network_of_another_shape_is_refused(change: dict[str, Any], folder: Path) -> None:
    change_network(folder, **change)
    refused(folder)


@pytest.mark.parametrize("network", [None, [], {}, "lstm", {"cell": "lstm"}])
def test_a_network_that_is_no_table_of_ours_is_refused(network: Any, folder: Path) -> None:
    change_config(folder, network=network)
    refused(folder, "is damaged or foreign")


@pytest.mark.parametrize("weights", ["float16", "float64", "int8", None, 4, [], {}, "x" * 10_000])
def test_weights_declared_in_another_precision_are_refused(weights: Any, folder: Path) -> None:
    change_config(folder, weights=weights)
    refused(folder)


@pytest.mark.parametrize(
    "ranges",
    [
        None,
        3,
        "ab",
        ["ab"],
        {"ab": 1},
        [[0, SIZE]],
        [[-1, 5]],
        [[5, 4]],
        [[0]],
        [[0, 1, 2]],
        [[0.0, 1.0]],
        [[True, True]],
        [["0", "1"]],
        [0, 1],
        [[0, 10**30]],
        [None],
        [[0, SIZE - 1]],
        [[0, 200], [201, SIZE - 1]],
    ],
    ids=str,
)
def test_unseen_ids_that_are_no_ranges_of_ids_or_leave_none_are_refused(ranges: Any, folder: Path) -> None:
    change_config(folder, unseen_ids=ranges)
    refused(folder, "unseen_ids (are not ranges of ids|leave nothing to generate)")


def test_a_vocabulary_of_another_size_is_refused(folder: Path) -> None:
    (folder / TOKENIZER).write_text(Tokenizer("ab").to_json(), "utf-8")
    refused(folder, rf"does not fit together: tokenizer\.json has 258 ids, config\.json says {SIZE}")


def transpose(tensors: dict[str, Any]) -> None:
    tensors["out.weight"] = np.ascontiguousarray(tensors["out.weight"].T)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.update(extra=np.zeros(3, np.float32)),
        lambda tensors: tensors.update(extra=np.zeros(0, np.float32)),
        lambda tensors: tensors.pop("out.bias"),
        lambda tensors: tensors.update({"out.bias2": tensors.pop("out.bias")}),
        lambda tensors: tensors.clear(),
        lambda tensors: tensors.update({"out.bias": tensors["out.bias"].astype(np.float64)}),
        lambda tensors: tensors.update({"out.bias": tensors["out.bias"].view(np.int32)}),
        lambda tensors: tensors.update({"out.bias": tensors["out.bias"][None]}),
        transpose,
    ],
)
def test_weights_of_other_names_shapes_or_types_are_refused(change: Callable[[Any], object], folder: Path) -> None:
    change_tensors(folder, change)
    refused(folder, "model.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float, folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors["layers.1.weight_hh_l0"].__setitem__((3, 2), value))
    refused(folder, r"layers\.1\.weight_hh_l0 holds NaN, infinity or a weight beyond .*; the training run diverged")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**40, 2**20]},
        {"shape": [2**63, 2]},
        {"shape": [-1]},
        {"shape": [float(SIZE)]},
        {"data_offsets": [0, 2**50]},
        {"data_offsets": [2**63, 2**64 - 1]},
        {"data_offsets": [8, 4]},
        {"data_offsets": [0, 4]},
        {"dtype": "BF16"},
        {"dtype": "F8_E4M3"},
        {"dtype": "Q4"},
        {"dtype": 7},
    ],
    ids=str,
)
def test_a_header_that_declares_other_sizes_is_refused_without_making_them(change: Any, folder: Path) -> None:
    change_header(folder, lambda header: header["out.bias"].update(change))
    tracemalloc.start()
    try:
        refused(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**31, 2**62, 2**64 - 1])
def test_a_header_of_another_declared_length_is_refused(size: int, folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", size) + content[8:])
    refused(folder)


def test_a_file_of_declared_but_absent_weights_is_refused(folder: Path) -> None:
    """A sparse file of a terabyte takes no disk; it must not take memory either."""
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(GIANT)
    refused(folder, "is truncated or belongs to another checkpoint")


@settings(max_examples=150)
@given(data=st.data(), name=st.sampled_from([CONFIG, TOKENIZER, WEIGHTS, CARD]))
def test_any_bytes_changed_anywhere_load_as_something_valid_or_are_refused(
    data: st.DataObject, name: str, checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "tampered"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkpoint_folder, folder)
    without_digests(folder)
    content = bytearray((folder / name).read_bytes())
    reach = min(len(content), 1_200 if name == WEIGHTS else 100_000)  # of the weights, the header
    for at, value in data.draw(st.dictionaries(st.integers(0, reach - 1), st.integers(0, 255), max_size=4)).items():
        content[at] = value
    (folder / name).write_bytes(content)
    try:
        loaded = load(folder)
    except CheckpointError:
        return
    shapes = {key: tensor.shape for key, tensor in loaded.tensors.items()}
    assert shapes == loaded.config.tensor_shapes()
    assert loaded.tokenizer.size == loaded.config.vocabulary
    assert len(loaded.seen()) > 0
    assert all(np.isfinite(tensor).all() for tensor in loaded.tensors.values())


def test_the_undamaged_copy_loads(folder: Path) -> None:
    assert load(folder).config == small_checkpoint().config
