"""The served model: what loading it takes is counted with the server's slots, and refused beyond the setting."""

import tracemalloc
from pathlib import Path

import pytest

from model.checkpoint import TOKENIZER, save
from model.errors import CheckpointError
from model.memory import LoadingBytes
from service.app import create_application
from service.inference.served_model import ServedModel, load_limit
from service.settings import Settings
from tests.model.small import small_checkpoint

CHARACTERS = "\n" + "".join(map(chr, range(0x20, 0x20 + 20_000)))


def test_an_application_takes_what_was_counted(checkpoint_folder: Path, tmp_path: Path) -> None:
    save(small_checkpoint(characters=CHARACTERS, hidden=64), tmp_path / "many")
    settings = Settings(checkpoint=tmp_path / "many")
    create_application(Settings(checkpoint=checkpoint_folder))  # what is made once for all is not the model's
    tracemalloc.start()
    try:
        app = create_application(settings)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    model = app.registry.loaded(None)
    assert model is not None
    config = model.decoder.config
    drawn, size = len(model.decoder.ids), (tmp_path / "many" / TOKENIZER).stat().st_size
    counted = LoadingBytes.of(config, "float32", drawn, size, load_limit(settings))
    assert peak <= counted.peak <= 1.5 * peak + counted.rows  # whose scratch is made with the first texts


def test_a_model_beyond_the_setting_is_refused(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, max_model_bytes=1 << 20)
    with pytest.raises(CheckpointError, match="may take 1,048,576; allow it more with --max-model-bytes"):
        ServedModel.load(settings)
    many = Settings(checkpoint=checkpoint_folder, max_rows=4_096, max_model_bytes=8 << 20)
    with pytest.raises(CheckpointError, match="may take 8,388,608"):
        ServedModel.load(many)
