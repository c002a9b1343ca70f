"""Steps on a list of items: rows in blocks of like length, and a run that goes on from the middle of an item."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import NetworkConfig
from model.text.frame import TextFrame
from model.text.tokenizer import Tokenizer
from training.items.batches import ItemBatches
from training.items.row_blocks import id_parts, like_length, within
from training.items.split import split_items
from training.loop.learner import Learner
from training.loop.parallel_step import ParallelStep
from training.loop.trainer import Trainer
from training.lstm_window import rows_may_end
from training.planning.config import TrainingConfig
from training.planning.regularisation import Regularisation

WORDS = [letter * (1 + number % 11) + str(number) for number, letter in enumerate("abcdefgh" * 50)]
TEXT = "".join(word + "\n" for word in WORDS)
TOKENIZER = Tokenizer.learn([TEXT]).framed(TextFrame("\n"))


def make_trainer(folder: Path) -> Trainer:
    """Windows of 4, so that most items are longer than a window, and rows of 2, so that there are many."""
    network = NetworkConfig(layers=2, hidden=16, embedding=8, vocabulary=TOKENIZER.size)
    config = TrainingConfig(
        network=network,
        batch_size=4,
        sequence_length=4,
        epochs=3.0,
        regularisation=Regularisation(output_dropout=0.2, drop_state=0.1),
    )
    parts = split_items(TOKENIZER.encode(TEXT), "90/5/5", TOKENIZER)
    return Trainer(config, TOKENIZER, parts, folder, [], device=torch.device("cpu"))


def test_a_run_goes_on_from_a_moment_as_if_nothing_had_happened(tmp_path: Path) -> None:
    one, other = make_trainer(tmp_path), make_trainer(tmp_path)
    in_an_item = False
    for step in range(60):
        one._step(0.1)
        if step == 30 or (step > 30 and not in_an_item and one.batches.position()["column"]):
            in_an_item = bool(one.batches.position()["column"])
            moment, behind = one.moment(), step
    assert in_an_item
    other.go_to(moment)
    for _ in range(59 - behind):
        other._step(0.1)
    assert other.state.step == one.state.step == 60
    assert other.state.ids == one.state.ids
    for mine, its in zip(one.learner.network.parameters(), other.learner.network.parameters(), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("rows", [1, 5, 40, 300])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_blocks_and_parts_hold_every_row_once(rows: int, threads: int) -> None:
    counts = np.sort(np.random.default_rng(rows).integers(1, 60, rows))[::-1]
    blocks, parts = like_length(counts), id_parts(counts, threads)
    for slices in (blocks, parts, [block for part in parts for block in within(blocks, part)]):
        borders = [0, *(one.stop for one in slices)]
        assert [(one.start, one.stop) for one in slices] == list(pairwise(borders))
        assert borders[-1] == rows
    assert len(parts) <= threads
    padded = sum((block.stop - block.start) * int(counts[block.start]) for block in blocks)
    assert counts.sum() <= padded <= rows * int(counts[0])
    if rows == 300:
        assert counts.sum() / padded > 0.8


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_rows_read_to_their_ends_learn_what_padded_ones_do(
    layers: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = NetworkConfig(layers=layers, hidden=32, embedding=8, vocabulary=TOKENIZER.size, skip=layers > 1)
    dropped = Regularisation(input_dropout=0.1, layer_dropout=0.2, output_dropout=0.2, drop_state=0.1, weight_drop=0.1)
    if not rows_may_end(network, torch.device("cpu")):
        pytest.skip("no kernel, or a processor without AVX512_BF16")
    parts = split_items(TOKENIZER.encode(TEXT), "90/5/5", TOKENIZER)
    found: list[list[torch.Tensor]] = []
    for ended in (True, False):
        if not ended:
            monkeypatch.setattr(ParallelStep, "_rows_may_end", lambda *_: False)
        torch.manual_seed(1)
        config = TrainingConfig(
            network=network, batch_size=6, precision="bf16", epochs=1.0, regularisation=dropped, threads=threads
        )
        learner, batches = Learner(config, torch.device("cpu")), ItemBatches(parts.train, parts.separator, 6, 4, 1)
        losses = [learner.learn(batches.next(), 0.0)[0] for _ in range(12)]
        gradients = [weight.grad for weight in learner.network.parameters() if weight.grad is not None]
        found.append([torch.stack(losses), *gradients])
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.02
