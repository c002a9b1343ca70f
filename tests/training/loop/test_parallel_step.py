"""Threads that share the rows of a batch: the gradient of the whole, and the same bytes each time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.cells.spec import Cell
from model.checkpoint import load
from model.config import NetworkConfig
from tests.training.verse import Recorder, make_trainer
from training.data.batches import Batches
from training.loop.learner import Learner
from training.loop.run_state import newest
from training.planning.config import TrainingConfig
from training.planning.regularisation import Regularisation

CPU = torch.device("cpu")
IDS = np.random.default_rng(4).integers(300, size=4000)


def everything(locked: bool) -> Regularisation:
    return Regularisation(
        input_dropout=0.1, layer_dropout=0.2, output_dropout=0.3, weight_drop=0.2, drop_state=0.2, locked=locked
    )


def learn(
    cell: Cell, threads: int, locked: bool = True, rows: int = 7, rate: float = 0.0, attention: int = 0
) -> tuple[Learner, list[float]]:
    """A learner after three windows, and their losses; at rate 0 its weights are as they were."""
    network = NetworkConfig(
        cell=cell, layers=2, hidden=48, embedding=24, vocabulary=300, skip=True, attention=attention
    )
    torch.manual_seed(1)
    learner = Learner(
        TrainingConfig(network=network, batch_size=rows, epochs=1, threads=threads, regularisation=everything(locked)),
        CPU,
    )
    batches = Batches(IDS, rows, 20, 1)
    return learner, [float(learner.learn(batches.next(), rate)[0]) for _ in range(3)]


def gradients(learner: Learner) -> list[Tensor]:
    found = [weight.grad for weight in learner.network.parameters()]
    assert all(gradient is not None for gradient in found)
    return [gradient for gradient in found if gradient is not None]


@pytest.mark.parametrize(("locked", "attention"), [(True, 0), (False, 0), (True, 32)])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_gradient_of_shared_rows_is_that_of_the_whole_batch(cell: Cell, locked: bool, attention: int) -> None:
    whole, losses = learn(cell, 1, locked, attention=attention)
    for threads in (2, 3, 7, 20):  # with 7 rows: uneven parts, a row each, more threads than rows
        shared, others = learn(cell, threads, locked, attention=attention)
        assert others == pytest.approx(losses, rel=1e-6)
        assert whole.state is not None
        assert shared.state is not None
        for one, other in zip(whole.state, shared.state, strict=True):
            # A key in whole numbers may fall to the other side where a sum is rounded otherwise.
            assert torch.allclose(one.float(), other.float(), atol=1.0 if one.dtype == torch.int8 else 1e-6)
        for one, other in zip(gradients(whole), gradients(shared), strict=True):
            assert float((one - other).norm()) <= (1e-5 if attention else 1e-6) * float(one.norm())


def test_what_is_left_out_does_not_depend_on_the_threads_and_differs_from_row_to_row() -> None:
    for locked in (True, False):
        torch.manual_seed(2)
        learner, _ = learn("lstm", 2, locked)
        masks = learner.masks.draw(6, carried=True)
        x = torch.ones(20, 6, 96)
        whole = masks.output(x)
        parts = [masks.rows(part).output(x[:, part]) for part in (slice(0, 1), slice(1, 4), slice(4, 6))]
        assert torch.equal(torch.cat(parts, 1), whole)
        assert not any(torch.equal(whole[:, row], whole[:, row + 1]) for row in range(5))


@pytest.mark.parametrize("locked", [True, False])
def test_two_runs_of_the_same_threads_give_the_same_bytes(tmp_path: Path, locked: bool) -> None:
    files = []
    for name in ("one", "other"):
        make_trainer(tmp_path / name, threads=3, layers=2, skip=True, regularisation=everything(locked), epochs=2).run()
        files.append([path.read_bytes() for path in sorted((tmp_path / name / "best").glob("*.safetensors"))])
    assert files[0]
    assert files[0] == files[1]


def test_a_run_of_two_threads_ends_where_one_of_one_thread_does(tmp_path: Path) -> None:
    bits = []
    for threads in (1, 2):
        recorder = Recorder()
        make_trainer(tmp_path / str(threads), recorder, threads=threads, regularisation=everything(True)).run()
        bits.append([one.validation_bits for one in recorder.validations])
    assert bits[1] == pytest.approx(bits[0], rel=0.01)


def test_a_resumed_run_of_two_threads_ends_with_the_weights_of_one_that_was_left_alone(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "threads": 2,
        "layers": 2,
        "regularisation": everything(False),
        "average": 0.5,
        "epochs": 2,
    }
    make_trainer(tmp_path / "whole", **options).run()
    assert make_trainer(tmp_path / "parts", Recorder(9), **options).run().step == 9
    saved = newest(tmp_path / "parts")
    assert saved is not None
    second = make_trainer(tmp_path / "parts", **options)
    second.resume(*saved)
    second.run()
    whole, parts = (load(tmp_path / name / "last").tensors for name in ("whole", "parts"))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_an_error_in_one_thread_is_raised_when_all_have_ended() -> None:
    learner, _ = learn("lstm", 2)
    beyond = Batches(np.full(4000, 400), 4, 20, 1)  # ids that the vocabulary does not have
    with pytest.raises(IndexError):
        learner.learn(beyond.next(), 0.0)
    good = Batches(IDS, 4, 20, 1)
    assert np.isfinite(float(learner.learn(good.next(), 0.0)[0]))
