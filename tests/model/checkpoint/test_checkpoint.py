"""Checkpoints on disk: what was saved is loaded to the bit, and a folder is replaced whole or not at all."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from model.cells.spec import Cell
from model.checkpoint import CARD, CONFIG, TOKENIZER, WEIGHTS, Checkpoint, load, save
from model.checkpoint.saving import _replace
from model.config import NetworkConfig, WeightsDtype
from model.errors import CheckpointError
from model.text.utf8_ids import BYTES
from tests.model.damage import without_digests
from tests.model.small import CELLS, OPTIONS, SIZE, small_checkpoint

NAMES = {CARD, CONFIG, TOKENIZER, WEIGHTS}


def assert_equal(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.config == expected.config
    assert found.tokenizer.characters == expected.tokenizer.characters
    assert found.unseen.tolist() == expected.unseen.tolist()
    assert found.training == expected.training
    assert found.card == expected.card
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert found.tensors[name].dtype == np.float32
        assert found.tensors[name].tobytes() == tensor.tobytes(), name


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_saved_and_loaded_is_the_same_to_the_bit(cell: Cell, options: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = small_checkpoint(cell, layers=3, **options)
    save(checkpoint, tmp_path / "made" / "on the way" / "模型")
    assert_equal(load(tmp_path / "made" / "on the way" / "模型"), checkpoint)


def test_a_configuration_from_when_dropout_stood_in_it_is_read(tmp_path: Path) -> None:
    """The first checkpoints say dropout, which no longer matters, and have no skip connections."""
    save(small_checkpoint(), tmp_path / "folder")
    without_digests(tmp_path / "folder")
    written = json.loads((tmp_path / "folder" / CONFIG).read_text("utf-8"))
    assert set(written["network"]) == {field.name for field in fields(NetworkConfig)} - {"attention"}  # it has none
    network = {name: value for name, value in written["network"].items() if name != "skip"}
    written["network"] = {**network, "dropout": 0.5}
    (tmp_path / "folder" / CONFIG).write_text(json.dumps(written), "utf-8")
    assert_equal(load(tmp_path / "folder"), small_checkpoint())


def change(folder: Path, network: dict[str, Any], plan: dict[str, Any] | None) -> None:
    """Put entries of an earlier version into a configuration."""
    without_digests(folder)
    written = json.loads((folder / CONFIG).read_text("utf-8"))
    written["network"] |= network
    written["training"] |= {} if plan is None else {"plan": plan}
    (folder / CONFIG).write_text(json.dumps(written), "utf-8")


@pytest.mark.parametrize("zoneout", [0.0, 0])
@pytest.mark.parametrize("plan", [None, {"regularisation": {"tied": False, "locked": True}}], ids=str)
def test_a_configuration_with_zoneout_and_tied_weights_off_is_read(
    zoneout: float, plan: dict[str, Any] | None, tmp_path: Path
) -> None:
    expected = small_checkpoint()
    save(expected, tmp_path / "folder")
    change(tmp_path / "folder", {"zoneout": zoneout}, plan)
    training = {**expected.training} if plan is None else {**expected.training, "plan": plan}
    assert_equal(load(tmp_path / "folder"), replace(expected, training=training))


@pytest.mark.parametrize(
    ("network", "plan", "used"),
    [
        ({"zoneout": 0.05}, None, "zoneout 0.05"),
        ({"zoneout": 0.0}, {"regularisation": {"tied": True}}, "tied weights"),
        ({"zoneout": 0.1}, {"regularisation": {"tied": True}}, "zoneout 0.1 and tied weights"),
    ],
)
def test_a_checkpoint_that_uses_zoneout_or_tied_weights_is_refused(
    network: dict[str, Any], plan: dict[str, Any] | None, used: str, tmp_path: Path
) -> None:
    save(small_checkpoint(), tmp_path / "folder")
    change(tmp_path / "folder", network, plan)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "folder")
    assert str(caught.value) == (
        f"The checkpoint {tmp_path / 'folder'} uses {used}, which this version of Unroll no longer has; "
        "train it anew, or use the version that wrote it."
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tied_weights_are_refused_where_only_the_weights_tell(dtype: WeightsDtype, tmp_path: Path) -> None:
    """A run that was killed left checkpoints without its plan; both matrices are in the file."""
    checkpoint = small_checkpoint(embedding=24)
    save(checkpoint, tmp_path / "apart", dtype)
    load(tmp_path / "apart")
    tied = {**checkpoint.tensors, "out.weight": checkpoint.tensors["embedding.weight"]}
    save(replace(checkpoint, tensors=tied), tmp_path / "tied", dtype)
    with pytest.raises(CheckpointError, match="uses tied weights, which this version of Unroll no longer has; train"):
        load(tmp_path / "tied")


def test_float16_halves_the_file_and_rounds_to_eleven_bits(tmp_path: Path) -> None:
    checkpoint = small_checkpoint()
    save(checkpoint, tmp_path / "whole")
    save(checkpoint, tmp_path / "half", "float16")
    loaded = load(tmp_path / "half")
    for name, tensor in checkpoint.tensors.items():
        assert loaded.tensors[name].dtype == np.float32
        np.testing.assert_allclose(loaded.tensors[name], tensor, rtol=2**-11, atol=2**-25)
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("whole", "half")]
    assert sizes[0] - sizes[1] == pytest.approx(2 * checkpoint.config.parameters(), abs=64)
    save(loaded, tmp_path / "again", "float16")
    assert contents(tmp_path / "again") == contents(tmp_path / "half")


def test_a_folder_holds_four_files_that_other_libraries_read(tmp_path: Path) -> None:
    checkpoint = small_checkpoint()
    save(checkpoint, tmp_path / "folder")
    assert {path.name for path in (tmp_path / "folder").iterdir()} == NAMES
    written = json.loads((tmp_path / "folder" / CONFIG).read_text("utf-8"))
    assert written["format"] == "unroll-checkpoint"
    assert written["unseen_ids"] == [[0, BYTES - 1]]
    tensors = safetensors.numpy.load_file(tmp_path / "folder" / WEIGHTS)
    assert {name: value.shape for name, value in tensors.items()} == checkpoint.config.tensor_shapes()


@settings(max_examples=25)
@given(st.sets(st.integers(0, SIZE - 1), max_size=SIZE - 1))
def test_any_set_of_unseen_ids_comes_back(tmp_path_factory: pytest.TempPathFactory, ids: set[int]) -> None:
    checkpoint = replace(small_checkpoint(hidden=1, embedding=1), unseen=np.array(sorted(ids), np.int64))
    folder = tmp_path_factory.getbasetemp() / "unseen"
    save(checkpoint, folder)
    loaded = load(folder)
    assert set(loaded.unseen.tolist()) == ids
    assert set(loaded.seen().tolist()) == set(range(SIZE)) - ids


def test_a_missing_card_or_training_record_is_no_reason_to_refuse(tmp_path: Path) -> None:
    save(replace(small_checkpoint(), training={}), tmp_path / "folder")
    (tmp_path / "folder" / CARD).unlink()
    loaded = load(tmp_path / "folder")
    assert (loaded.card, loaded.training) == ("", {})


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        save(small_checkpoint(seed=seed), tmp_path / "best")
    assert_equal(load(tmp_path / "best"), small_checkpoint(seed=3))
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_an_empty_folder_may_become_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    save(small_checkpoint(), tmp_path / "best")
    assert_equal(load(tmp_path / "best"), small_checkpoint())


def test_a_file_or_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("a book")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("a letter")
    before = contents(tmp_path)
    for name in ("book.txt", "home"):
        with pytest.raises(CheckpointError, match="is not a checkpoint and is not replaced by one; choose another"):
            save(small_checkpoint(), tmp_path / name)
    assert contents(tmp_path) == before


def test_a_disk_that_refuses_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    before = contents(tmp_path)
    for folder in (tmp_path / "file" / "best", tmp_path / ("x" * 300), tmp_path / ("x" * 300) / "best"):
        with pytest.raises(CheckpointError, match=r"could not be written \(.+\); what was there before is kept\."):
            save(small_checkpoint(), folder)
    assert contents(tmp_path) == before


def test_when_the_folder_cannot_step_aside_the_old_checkpoint_stays(tmp_path: Path) -> None:
    """The name to step aside to is longer than the one that is there: 255 bytes are a name, 256 are not."""
    folder = tmp_path / ("x" * 255)
    save(small_checkpoint(seed=1), folder)
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=r"could not be written \(.+\); what was there before is kept\."):
        save(small_checkpoint(seed=2), folder)
    assert contents(tmp_path) == before
    assert_equal(load(folder), small_checkpoint(seed=1))


def test_when_the_new_checkpoint_cannot_move_in_the_old_one_moves_back(tmp_path: Path) -> None:
    save(small_checkpoint(seed=1), tmp_path / "best")
    with pytest.raises(FileNotFoundError):
        _replace(tmp_path / "vanished meanwhile", tmp_path / "best")
    assert_equal(load(tmp_path / "best"), small_checkpoint(seed=1))
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("training", [{"loss": float("nan")}, {"loss": {1, 2}}, {"text": "\ud800"}])
def test_a_record_that_is_no_json_leaves_the_old_checkpoint(training: dict[str, Any], tmp_path: Path) -> None:
    save(small_checkpoint(), tmp_path / "best")
    before = contents(tmp_path)
    with pytest.raises((ValueError, TypeError)):
        save(replace(small_checkpoint(), training=training), tmp_path / "best")
    assert contents(tmp_path) == before


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stops the write in its middle, as a full disk would."""
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    signal = pytest.importorskip("signal")
    folder = tmp_path / "best"
    save(small_checkpoint(seed=1), folder)
    before = contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written \(File too large\)"):
            save(small_checkpoint(seed=2), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert contents(tmp_path) == before
    assert_equal(load(folder), small_checkpoint(seed=1))
