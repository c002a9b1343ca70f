"""Batches read every character once a pass, and go on where they stopped."""

import json

import numpy as np
import pytest

from training.data.batches import Batches


def test_a_pass_reads_every_character_once_and_the_next_pass_starts_elsewhere() -> None:
    ids = np.arange(1200)
    batches = Batches(ids, batch_size=4, sequence_length=50, seed=3)
    assert batches.ids_per_pass == 1200
    windows = [batches.next() for _ in range(12)]
    first, second = windows[:6], windows[6:]
    for one_pass in (first, second):
        assert sorted(np.concatenate([w.inputs.ravel() for w in one_pass]).tolist()) == ids.tolist()
    assert first[0].inputs[0, 0] != second[0].inputs[0, 0]
    assert [window.fresh for window in windows] == ([True] + [False] * 5) * 2


@pytest.mark.parametrize("jitter", [0.0, 6.0])
def test_targets_are_one_character_on_and_windows_read_on(jitter: float) -> None:
    ids = np.arange(1200)
    before, batches = None, Batches(ids, batch_size=4, sequence_length=50, seed=0, jitter=jitter)
    for _ in range(18):
        window = batches.next()
        assert window.targets.tolist() == ((window.inputs + 1) % 1200).tolist()
        if before is not None and not window.fresh:
            assert window.inputs[:, 0].tolist() == before.targets[:, -1].tolist()
        before = window


def test_a_seed_fixes_the_places_read() -> None:
    def read(seed: int) -> list[int]:
        batches = Batches(np.arange(999), batch_size=3, sequence_length=20, seed=seed)
        return [int(batches.next().inputs[0, 0]) for _ in range(40)]

    assert read(1) == read(1)
    assert read(1) != read(2)


def test_lengths_vary_around_the_one_chosen_and_one_window_in_twenty_is_half_as_long() -> None:
    batches = Batches(np.arange(100_000), batch_size=2, sequence_length=64, seed=1, jitter=4.0)
    lengths = np.array([batches.next().inputs.shape[1] for _ in range(2000)])
    halved = lengths < 48
    assert 0.03 < halved.mean() < 0.07
    assert lengths[~halved].mean() == pytest.approx(64, abs=0.3)
    assert lengths[~halved].std() == pytest.approx(4, abs=0.4)
    assert lengths[halved].mean() == pytest.approx(32, abs=1.5)


@pytest.mark.parametrize("jitter", [0.0, 5.0])
def test_batches_read_on_from_a_place_that_was_kept(jitter: float) -> None:
    ids = np.arange(3000)
    whole, parts = (Batches(ids, batch_size=3, sequence_length=40, seed=5, jitter=jitter) for _ in range(2))
    for _ in range(37):
        whole.next()
        parts.next()
    position = json.loads(json.dumps(parts.position()))
    later = Batches(ids, batch_size=3, sequence_length=40, seed=99, jitter=jitter)
    later.go_to(position)
    for _ in range(60):
        expected, found = whole.next(), later.next()
        assert np.array_equal(expected.inputs, found.inputs)
        assert expected.fresh == found.fresh
