"""What loading takes is known before it is made: no less than it takes, and not much more, in any shape."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from model.checkpoint import TOKENIZER, check, load, read, save
from model.config import NetworkConfig, WeightsDtype
from model.decoding.decoder import Decoder
from model.decoding.step_weights import Quantization
from model.errors import CheckpointError
from model.memory import UNLIMITED, VARIABLE, LoadingBytes, LoadLimit
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from tests.model.small import SIZE, small_checkpoint
from unroll import program

SHAPES: dict[str, dict[str, Any]] = {
    "wide": {"layers": 2, "hidden": 640, "embedding": 64},
    "layers": {"layers": 5, "hidden": 300, "embedding": 32},
    "skip": {"layers": 3, "hidden": 320, "embedding": 48, "skip": True},
    "attention": {"layers": 2, "hidden": 320, "embedding": 48, "skip": True, "attention": 1_024},
    "gru": {"cell": "gru", "layers": 3, "hidden": 400, "embedding": 200},
    "rnn": {"cell": "rnn", "layers": 1, "hidden": 1_500, "embedding": 16},
    "wide embedding": {"layers": 1, "hidden": 64, "embedding": 2_048, "characters": 3_000},
    "characters": {"layers": 1, "hidden": 16, "embedding": 8, "characters": 60_000},
    "characters alone": {"cell": "rnn", "layers": 1, "hidden": 1, "embedding": 1, "characters": 70_000},
    "characters and width": {"layers": 2, "hidden": 64, "embedding": 64, "characters": 20_000},
}
FIXED = 10 << 20  # bytes of the count that do not follow from the shape; a bundled model takes three times as much
MOST = 1.5
ROWS = 128


def characters(count: int) -> str:
    return "\n" + "".join(map(chr, [*range(0x20, 0xD800), *range(0xE000, 0x110000)][: count - 1]))


def saved(folder: Path, dtype: WeightsDtype, shape: dict[str, Any]) -> None:
    own = dict(shape)
    if "characters" in own:
        own["characters"] = characters(own["characters"])
    save(small_checkpoint(**own), folder, dtype)


@pytest.mark.parametrize(("dtype", "quantization"), [("float32", "int8"), ("float16", "int8"), ("float32", "fp32")])
@pytest.mark.parametrize("shape", SHAPES)
def test_loading_takes_what_was_counted_and_at_least_two_thirds_of_it(
    shape: str, dtype: WeightsDtype, quantization: Quantization, tmp_path: Path
) -> None:
    saved(tmp_path / "model", dtype, SHAPES[shape])
    tracemalloc.start()
    try:
        stored = read(tmp_path / "model")
        decoder = Decoder(stored.checkpoint, quantization)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    config, size = stored.checkpoint.config, (tmp_path / "model" / TOKENIZER).stat().st_size
    counted = LoadingBytes.of(config, dtype, len(decoder.ids), size, LoadLimit(arithmetic=quantization))
    assert peak <= counted.peak
    assert counted.peak <= MOST * peak + FIXED


def test_what_is_beyond_the_limit_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    saved(tmp_path / "model", "float16", SHAPES["characters"])
    limit = LoadLimit(most_bytes=16 << 20)
    for look in (load, read, check):
        tracemalloc.start()
        try:
            with pytest.raises(
                CheckpointError,
                match=r"model would take [\d,]+ bytes \(weights [\d,]+, decoder [\d,]+, slots [\d,]+, "
                r"vocabulary [\d,]+, and [\d,]+ while that is read\) of memory, and may take 16,777,216; "
                r"allow it more with --max-model-bytes or UNROLL_MAX_MODEL_BYTES \(from Python with max_model_bytes\), "
                "or name a smaller model",
            ):
                look(tmp_path / "model", limit)
            assert tracemalloc.get_traced_memory()[1] < 2 << 20
        finally:
            tracemalloc.stop()
    assert load(tmp_path / "model", UNLIMITED).config.vocabulary == 60_256


def test_a_vocabulary_of_all_characters_at_64_units_is_refused_by_default() -> None:
    """It is 92 MB on disk."""
    config = NetworkConfig(layers=1, hidden=64, embedding=16, vocabulary=1_112_320)
    takes = LoadingBytes.of(config, "float16", config.vocabulary - 256, 23_000_000, LoadLimit())
    assert 1_500_000_000 < takes.peak < 2_500_000_000
    assert takes.peak > (LoadLimit().most_bytes or 0)


@pytest.mark.parametrize("shape", ["wide", "gru", "characters"])
def test_rows_that_read_score_and_draw_take_no_more_than_was_counted(shape: str, tmp_path: Path) -> None:
    saved(tmp_path / "model", "float32", SHAPES[shape])
    stored = read(tmp_path / "model")
    decoder = Decoder(stored.checkpoint)
    sampling = RowSampling(SamplingParameters(temperature=0), decoder.ids, np.zeros(1, np.int32))
    ids = np.full((ROWS, 8), 270, np.int32)
    tracemalloc.start()
    try:
        rows = decoder.rows(ROWS)
        rows.read(range(ROWS), ids)
        rows.score([0], ids[:1].repeat(8, 1), ids[:1].repeat(8, 1), 0)
        for slot in range(ROWS):
            rows.set(slot, sampling, 270)
        rows.draw(range(ROWS), 4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    limit = LoadLimit(rows=ROWS)
    assert peak <= LoadingBytes.of(stored.checkpoint.config, "float32", len(decoder.ids), 0, limit).rows


def test_each_slot_and_thread_is_counted() -> None:
    config = small_checkpoint().config
    one = LoadingBytes.of(config, "float32", SIZE, 9_000, LoadLimit())
    many = LoadingBytes.of(config, "float32", SIZE, 9_000, LoadLimit(rows=4_096, threads=8, of_an_id=64))
    assert many.rows > one.rows + 4_095 * (4 * 96 + SIZE + 4 * SIZE)
    assert many.vocabulary == one.vocabulary + 64 * SIZE


@pytest.mark.parametrize("arguments", [["generate"], ["info"], ["evaluate", "book.txt"], ["copied", "book.txt"]])
def test_every_verb_takes_the_limit(arguments: list[str], tmp_path: Path) -> None:
    saved(tmp_path / "model", "float32", {"hidden": 300, "characters": 300})
    (tmp_path / "book.txt").write_text("a book")
    verb, *corpus = arguments
    called = [verb, str(tmp_path / "model"), *(str(tmp_path / name) for name in corpus)]
    for flags, variables in ((["--max-model-bytes", "2000000"], {}), ([], {VARIABLE: "2000000"})):
        result = CliRunner(env=variables).invoke(program, [*called, *flags])
        assert isinstance(result.exception, CheckpointError)
        assert "may take 2,000,000; allow it more with --max-model-bytes" in str(result.exception)
