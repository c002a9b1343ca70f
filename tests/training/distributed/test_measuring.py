"""Processes that measure a run together come to the figures of one process."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.distributed.crew import Crew, made
from tests.training.distributed.jobs import LIST, OF_LIST, Run, make_trainer, measured
from tests.training.verse import TEXT, TOKENIZER
from training.data.split import split
from training.distributed.ranks import ALONE
from training.items.split import split_items
from training.loop.finished_run import FinishedRun
from training.measurement import FITTED, measure

MINUTES = 1_000.0  # of a budget whose shares are enough to read all there is
TO_READ = 10_000  # ids of each part


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with made(3) as processes:
        yield processes


def run_of(folder: Path, *, items: bool = False) -> FinishedRun:
    options = {"epochs": 0.5, "minutes": MINUTES, "fit_temperature": True}
    run = make_trainer(ALONE, Run(folder, items, options=options)).run()
    parts = split_items(OF_LIST.encode(LIST), "60/20/20", OF_LIST)
    return replace(run, split=parts if items else split(TOKENIZER.encode(TEXT), "70/22/8"))


@pytest.fixture(scope="module")
def of_text(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return run_of(tmp_path_factory.mktemp("text"))


@pytest.mark.parametrize("count", [2, 3])
def test_a_text_has_the_figures_of_one_process(crew: Crew, of_text: FinishedRun, count: int) -> None:
    run, alone = of_text, measure(of_text, TO_READ)
    assert alone.memory is not None
    assert alone.surprise is not None
    assert "cold windows of 256, all " in alone.figures["test, cold"].protocol  # not as many as there was time for
    for found in crew.do_all(measured, run, TO_READ, count=count):
        assert found.figures == alone.figures
        assert found.surprise == alone.surprise
        assert found.memory == alone.memory
        assert found.sample.tolist() == alone.sample.tolist()
        assert found.best.training == alone.best.training


@pytest.mark.parametrize("count", [2, 3])
def test_a_list_has_the_figures_of_one_process(crew: Crew, tmp_path: Path, count: int) -> None:
    run = run_of(tmp_path, items=True)
    alone = measure(run, TO_READ)
    assert alone.surprise is not None
    for found in crew.do_all(measured, run, TO_READ, count=count):
        assert found.best.training[FITTED] == pytest.approx(alone.best.training[FITTED], abs=1e-4)
        for name, score in alone.figures.items():
            assert found.figures[name].nats == pytest.approx(score.nats, rel=1e-6), name
            assert replace(found.figures[name], nats=score.nats) == score
        assert found.surprise is not None
        assert found.surprise.lengths.keys() == alone.surprise.lengths.keys()
        for length, quantiles in alone.surprise.lengths.items():
            assert found.surprise.lengths[length] == pytest.approx(quantiles, abs=1e-3)
        assert set(found.sample.tolist()) <= set(range(OF_LIST.size))


def test_a_run_that_was_stopped_is_measured_in_a_hurry(crew: Crew, of_text: FinishedRun) -> None:
    run = replace(of_text, stopped_early=True)
    alone = measure(run, TO_READ)
    for found in crew.do_all(measured, run, TO_READ):
        assert FITTED not in found.best.training
        assert found.figures["validation and test"] == alone.figures["validation and test"]
