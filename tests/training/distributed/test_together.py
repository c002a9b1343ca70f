"""Processes that train together take the steps of one process, and go on from each other's states."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.errors import TrainingError
from tests.training.distributed.crew import Crew, made
from tests.training.distributed.jobs import (
    Run,
    agreement,
    make_trainer,
    rounded_sums,
    steps,
    steps_by_sockets,
    sums_in_shared_memory,
    whole_run,
)
from training.distributed.ranks import ALONE
from training.loop.trainer import Trainer
from training.planning.regularisation import Regularisation


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with made(3) as processes:
        yield processes


def assert_close(one: list[torch.Tensor], other: list[torch.Tensor], tolerance: float) -> None:
    assert all(torch.allclose(left, right, atol=tolerance, rtol=0) for left, right in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(Run(Path()), id="text"),
        pytest.param(Run(Path(), options={"jitter": 3.0, "threads": 2}), id="lengths that vary, 2 threads"),
        pytest.param(Run(Path(), items=True), id="items longer than a window"),
        pytest.param(Run(Path(), options={"accumulate": 3}), id="3 windows a step"),
        pytest.param(Run(Path(), attention=48), id="attention"),
    ],
)
def test_the_curve_of_two_processes_is_that_of_one(crew: Crew, run: Run) -> None:
    alone, weights = steps(ALONE, run, 100)
    together = crew.do_all(steps, run, 100)
    assert together[0][0] == together[1][0]
    assert all(torch.equal(*pair) for pair in zip(together[0][1], together[1][1], strict=True))
    assert together[0][0] == pytest.approx(alone, abs=1e-4)
    assert alone[-1] < alone[0] - 0.5
    assert_close(together[0][1], weights, 1e-3)


def test_three_processes_and_gradients_in_bf16_learn_as_one_does(crew: Crew) -> None:
    run = Run(Path(), options={"batch_size": 6})
    alone, _ = steps(ALONE, run, 60)
    exact = crew.do_all(steps, run, 60, count=3)
    assert exact[0][0] == pytest.approx(alone, abs=1e-4)
    rounded = crew.do_all(steps, Run(Path(), options={"batch_size": 6, "compression": "bf16"}), 60, count=3)
    assert all(torch.equal(*pair) for pair in zip(rounded[0][1], rounded[2][1], strict=True))
    assert rounded[0][0] == pytest.approx(alone, abs=0.05)
    assert rounded[0][0] != exact[0][0]


def test_several_windows_a_step_have_the_mean_of_their_gradients() -> None:
    def trainer(accumulate: int) -> Trainer:
        return make_trainer(ALONE, Run(Path(), options={"regularisation": Regularisation(), "accumulate": accumulate}))

    several, single = trainer(3), trainer(1)
    window, *more = [several.batches.next() for _ in range(3)]
    step, state, gradients = single.learner.step, None, []
    for _ in range(3):
        one = single.batches.next()
        inputs, targets = torch.from_numpy(one.inputs), torch.from_numpy(one.targets)
        _, state = step(inputs, targets, state, single.learner.masks.draw(8, carried=False))
        gradients.append([weight.grad for weight in single.learner.network.parameters()])
    mean = [sum(parts) / 3 for parts in zip(*gradients, strict=True)]
    norm = float(torch.stack([part.norm() for part in mean]).norm())
    assert float(several.learner.learn(window, 1e-3, more=more).norm) == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_sums_are_the_same_everywhere(crew: Crew, count: int) -> None:
    answers = crew.do_all(rounded_sums, count=count)
    wanted = torch.arange(1001) * sum(range(1, count + 1)) / 7
    for exact, rounded in answers:
        assert torch.allclose(exact, wanted)
        assert torch.allclose(rounded, wanted, rtol=2**-7)
        assert torch.equal(exact, answers[0][0])
        assert torch.equal(rounded, answers[0][1])


@pytest.mark.parametrize("count", [2, 3])
def test_sums_in_shared_memory_are_the_same_everywhere(crew: Crew, count: int) -> None:
    answers = crew.do_all(sums_in_shared_memory, count=count)
    wanted = torch.arange(1001) * sum(range(1, count + 1)) / 7
    for sums in answers:
        assert all(torch.allclose(one, factor * wanted) for factor, one in zip((1, 2), sums, strict=True))
        assert all(torch.equal(*pair) for pair in zip(sums, answers[0], strict=True))


def test_steps_are_the_same_by_shared_memory_and_by_sockets(crew: Crew) -> None:
    run = Run(Path(), options={"accumulate": 2})
    losses, weights = crew.do_all(steps, run, 20)[1]
    others, other_weights = crew.do_all(steps_by_sockets, run, 20)[0]
    assert losses == others
    assert all(torch.equal(*pair) for pair in zip(weights, other_weights, strict=True))


@pytest.mark.parametrize("items", [False, True])
def test_a_stop_of_one_ends_all_and_the_same_number_goes_on_to_the_bit(crew: Crew, tmp_path: Path, items: bool) -> None:
    epochs = {"epochs": 0.8 if items else 3.0}
    whole = crew.do_all(whole_run, Run(tmp_path / "whole", items, options=epochs))
    stopped = crew.do_all(whole_run, Run(tmp_path / "parts", items, stop_at=30, options=epochs))
    assert [one["step"] for one in stopped] == [stopped[0]["step"]] * 2
    assert 30 <= stopped[0]["step"] <= 31
    assert all(one["stopped early"] for one in stopped)
    resumed = crew.do_all(whole_run, Run(tmp_path / "parts", items, resumed=True, options=epochs))
    assert resumed[0]["step"] == whole[0]["step"]
    assert all(torch.equal(*pair) for pair in zip(resumed[0]["weights"], whole[0]["weights"], strict=True))


def test_another_number_of_processes_goes_on_within_tolerance(crew: Crew, tmp_path: Path) -> None:
    alone = whole_run(ALONE, Run(tmp_path / "alone"))
    crew.do_all(whole_run, Run(tmp_path / "parts", stop_at=30))
    resumed = whole_run(ALONE, Run(tmp_path / "parts", resumed=True))
    assert resumed["step"] == alone["step"]
    assert resumed["validations"] == pytest.approx(alone["validations"], abs=5e-3)


def test_a_lost_run_goes_back_in_all_processes(crew: Crew, tmp_path: Path) -> None:
    run = Run(tmp_path, poison=25, options={"epochs": 8.0})
    ends = crew.do_all(whole_run, run)
    assert [end["rolled back"] for end in ends] == [1, 1]
    assert all(torch.equal(*pair) for pair in zip(ends[0]["weights"], ends[1]["weights"], strict=True))
    alone = whole_run(ALONE, Run(tmp_path / "alone", poison=25, options={"epochs": 8.0}))
    assert alone["step"] == ends[0]["step"]
    assert ends[0]["validations"] == pytest.approx(alone["validations"], abs=5e-3)


@pytest.mark.parametrize(
    ("corpora", "what"),
    [
        (
            ["a", "b"],
            r"Rank 1 \(.*, process \d+\) has another corpus than rank 0 \(b against a\); give all the same files",
        ),
        (["a", "a"], None),
    ],
)
def test_processes_with_different_texts_are_refused(crew: Crew, corpora: list[str], what: str | None) -> None:
    for answer in crew.do(agreement, corpora):
        if what is None:
            assert answer is True
        else:
            assert isinstance(answer, TrainingError)
            assert re.search(what, str(answer))
