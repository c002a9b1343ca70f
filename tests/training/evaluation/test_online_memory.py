"""With the online memory a text costs less where it repeats itself, by every reader, and its weights are fitted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import Checkpoint, load, read, save
from model.decoding.decoder import Decoder
from model.network import from_tensors
from model.online_memory.weights import NAME, START, WEIGHTS, MemoryWeights
from tests.model.small import small_checkpoint
from training.evaluation.dynamic_evaluation import Adaptation, adapting_reader, root_mean_squares
from training.evaluation.network_reader import network_distributions
from training.evaluation.online_memory import Memories, decoder_distributions, fit_memory, remembering
from training.evaluation.protocols import carried
from training.evaluation.readers import decoder_reader
from training.report.card import rewrite_memory

TEXT = "the cat sat on the mat, and the dog sat on the cat. " * 24
CHECKPOINT = small_checkpoint()
IDS = CHECKPOINT.tokenizer.encode(TEXT)


def test_every_reader_tells_the_same_memory() -> None:
    weights, decoder = MemoryWeights(), Decoder(CHECKPOINT, "fp32")
    served = carried(remembering(decoder_distributions(decoder), Memories(weights)), IDS, 2)
    network = from_tensors(CHECKPOINT.config, CHECKPOINT.tensors)
    trained = carried(remembering(network_distributions(network), Memories(weights)), IDS, 2)
    assert trained.nats == pytest.approx(served.nats, rel=1e-4)
    assert served.nats < carried(decoder_reader(decoder), IDS, 2).nats / 2


def test_the_window_does_not_matter() -> None:
    distribute = decoder_distributions(Decoder(CHECKPOINT))
    every = [carried(remembering(distribute, Memories(MemoryWeights())), IDS, 2, window).nats for window in (17, 128)]
    assert every[0] == pytest.approx(every[1], rel=1e-9)


def test_dynamic_evaluation_learns_the_same_beside_a_memory() -> None:
    network = from_tensors(CHECKPOINT.config, CHECKPOINT.tensors)
    usual = root_mean_squares(network, IDS, 1, 10)
    still = carried(adapting_reader(network, usual, Adaptation(0.0, 0.0, 20), MemoryWeights()), IDS, 1, 20)
    expected = carried(remembering(network_distributions(network), Memories(MemoryWeights())), IDS, 1, 20)
    assert still.nats == pytest.approx(expected.nats, rel=1e-5)


def test_weights_are_fitted_kept_in_the_checkpoint_and_leave_the_model_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save(CHECKPOINT, folder)
    before = read(folder)
    fitted = rewrite_memory(folder, IDS)
    after = read(folder)
    assert MemoryWeights.of(load(folder).training) == fitted == fit_memory(CHECKPOINT, IDS)
    assert len(fitted.values) == WEIGHTS
    assert len({value for value in fitted.values if value != START}) > 5
    assert f"the first {len(IDS):,} ids of the validation part" in fitted.protocol
    assert after.digests.model == before.digests.model
    assert json.loads((folder / "config.json").read_text("utf-8"))["training"][NAME] == fitted.to_json()
    learnt = nats(CHECKPOINT, fitted)
    assert learnt < nats(CHECKPOINT, MemoryWeights())


def nats(checkpoint: Checkpoint, weights: MemoryWeights) -> float:
    return carried(remembering(decoder_distributions(Decoder(checkpoint)), Memories(weights)), IDS, 1).nats


def test_a_short_text_fits_nothing() -> None:
    assert fit_memory(replace(CHECKPOINT), IDS[:1000]) is None
    assert np.all(np.array(MemoryWeights().values) == START)
