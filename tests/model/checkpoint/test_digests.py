"""Digests of a checkpoint: a damaged byte is refused or changes nothing, and a model has one name for its version."""

import hashlib
import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.checkpoint import BUNDLED, CARD, CONFIG, TOKENIZER, WEIGHTS, Checkpoint, load, read, save
from model.config import WeightsDtype
from model.errors import CheckpointError
from model.text.tokenizer import Tokenizer
from tests.model.damage import change_config, refused, without_digests
from tests.model.small import CHARACTERS, small_checkpoint

DAMAGED = 600


@pytest.fixture
def folder(checkpoint_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small checkpoint to do damage to."""
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def value_of(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """All that a checkpoint is but its card, to be compared."""
    return {
        "config": checkpoint.config,
        "characters": checkpoint.tokenizer.characters,
        "tensors": {name: tensor.tobytes() for name, tensor in checkpoint.tensors.items()},
        "unseen": checkpoint.unseen.tolist(),
        "training": json.dumps(checkpoint.training),
    }


def test_a_damaged_byte_is_refused_or_changes_nothing(folder: Path) -> None:
    """What still loads has another white space, or another card, which is for people."""
    drawn, expected = random.Random(13), value_of(load(folder))
    files = {name: (folder / name).read_bytes() for name in (CONFIG, TOKENIZER, WEIGHTS, CARD)}
    refusals = dict.fromkeys(files, 0)
    for at in range(DAMAGED):
        name = list(files)[at % len(files)]
        content = bytearray(files[name])
        content[drawn.randrange(len(content))] ^= drawn.randrange(1, 256)
        (folder / name).write_bytes(content)
        try:
            found = value_of(load(folder))
        except CheckpointError:
            refusals[name] += 1
        else:
            assert name in (CONFIG, CARD)
            assert found == expected
        (folder / name).write_bytes(files[name])
    each = DAMAGED // len(files)
    assert refusals[WEIGHTS] == refusals[TOKENIZER] == each
    assert refusals[CONFIG] > each * 0.5
    assert 0 < refusals[CARD] < each  # it must be UTF-8


def test_every_byte_of_the_digests_counts(folder: Path) -> None:
    """A damaged name must not make the checkpoint one of before there were digests."""
    content = (folder / CONFIG).read_bytes()
    for at in range(content.index(b'"digests"'), len(content)):
        if not content[at : at + 1].isspace():
            (folder / CONFIG).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            refused(folder)


def test_what_is_digested_can_be_computed_by_anybody(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    digests = config["digests"]
    assert (digests["weights"], digests["tokenizer"]) == (digest_of(folder / WEIGHTS), digest_of(folder / TOKENIZER))
    recorded = digests.pop("config")
    spelled = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    assert recorded == hashlib.sha256(spelled).hexdigest()


def test_files_of_two_checkpoints_do_not_mix(folder: Path, tmp_path: Path) -> None:
    save(small_checkpoint(seed=1), tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS, folder / WEIGHTS)
    refused(folder, r"model\.safetensors is damaged: its sha256 is not the one in config\.json; restore it, or train")
    save(small_checkpoint(characters=CHARACTERS[::-1]), tmp_path / "other")
    shutil.copy(tmp_path / "other" / TOKENIZER, folder / TOKENIZER)
    refused(folder, r"tokenizer\.json is damaged: its sha256 is not the one in config\.json")


def test_a_changed_configuration_is_refused_and_says_how_to_mean_it(folder: Path) -> None:
    change_config(folder, unseen_ids=[[1, 2]])
    refused(folder, r"config\.json is damaged: it does not match the digest .* take the entry digests out of it")
    without_digests(folder)
    assert load(folder).unseen.tolist() == [1, 2]


@pytest.mark.parametrize(
    "digests", [None, [], "x", {}, {"weights": "", "tokenizer": ""}, {"weights": 1, "tokenizer": [], "config": {}}]
)
def test_digests_that_are_none_are_refused(digests: Any, folder: Path) -> None:
    change_config(folder, digests=digests)
    refused(folder, r"config\.json is damaged")


def test_entries_that_nobody_knows_are_refused(folder: Path) -> None:
    without_digests(folder)
    change_config(folder, eigests={})
    refused(folder, r"has entries that this Unroll does not know: \['eigests'\]; the file is damaged, or of a later")


def test_an_older_checkpoint_loads_with_a_note(folder: Path) -> None:
    with_digests = read(folder)
    assert (with_digests.digests.recorded, with_digests.note) == (True, "")
    without_digests(folder)
    older = read(folder)
    assert value_of(older.checkpoint) == value_of(with_digests.checkpoint)
    assert older.digests == replace(with_digests.digests, recorded=False)
    assert older.note == (
        f"The checkpoint {folder} was made before checkpoints had digests: it loads, but damage to it may go unseen. "
        "`unroll evaluate --write-surprise` gives it digests."
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_model_saved_again_has_the_same_digest(dtype: WeightsDtype, tmp_path: Path) -> None:
    save(small_checkpoint(), tmp_path / "one", dtype)
    first = read(tmp_path / "one")
    save(replace(first.checkpoint, training={"steps": 3}, card="Another card."), tmp_path / "two", dtype)
    assert read(tmp_path / "two").digests == first.digests


def test_another_model_has_another_digest(tmp_path: Path) -> None:
    one = small_checkpoint()
    others = (
        one,
        small_checkpoint(seed=1),
        replace(one, unseen=np.zeros(0, np.int64)),
        replace(one, tokenizer=Tokenizer(CHARACTERS[::-1])),
        small_checkpoint(layers=1),
        small_checkpoint(layers=1, skip=True),  # the same weights, and the same texts, of another configuration
    )
    digests = set()
    for checkpoint in others:
        save(checkpoint, tmp_path / "model")
        digests.add(read(tmp_path / "model").digests.model)
    save(one, tmp_path / "model", "float16")
    assert len(digests | {read(tmp_path / "model").digests.model}) == len(others) + 1


def test_the_bundled_model_has_digests_and_keeps_its_own_when_saved_by_this_version(tmp_path: Path) -> None:
    """Its configuration is of a version that knew zoneout."""
    bundled = read(BUNDLED)
    assert bundled.digests.recorded
    save(bundled.checkpoint, tmp_path / "again", bundled.dtype)
    assert read(tmp_path / "again").digests == bundled.digests
