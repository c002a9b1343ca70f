"""Splits, lanes and schedules: every character has its place, and every step its rate."""

import itertools

import numpy as np
import pytest

from model.errors import CorpusError, ParameterError
from model.tokenizer import Tokenizer
from training.batches import Lanes
from training.schedule import Budget, rate
from training.split import split


def test_parts_are_contiguous_and_miss_nothing() -> None:
    ids = np.arange(10_000, dtype=np.uint16) % 60 + 256
    for scheme, sizes in (
        ("90/5/5", (9000, 500, 500)),
        ("80/10/10", (8000, 1000, 1000)),
        ("nanogpt", (9000, 500, 500)),
    ):
        parts = split(ids, scheme)
        assert (len(parts.train), len(parts.validation), len(parts.test)) == sizes
        assert np.concatenate([parts.train, parts.validation, parts.test]).tolist() == ids.tolist()


def test_the_nanogpt_split_has_the_published_sizes() -> None:
    parts = split(np.full(1_115_394, 300, np.uint16), "nanogpt")
    assert len(parts.train) == 1_003_854
    assert (len(parts.validation), len(parts.test)) == (55_770, 55_770)


def test_no_part_begins_inside_a_character() -> None:
    tokenizer = Tokenizer("a")
    ids = tokenizer.encode("詩a" * 2000)  # 詩 is spelt in three bytes
    for scheme in ("90/5/5", "nanogpt", "70/10/20", "33/33/34"):
        parts = split(ids, scheme)
        for part in (parts.train, parts.validation, parts.test):
            assert "\ufffd" not in tokenizer.decode(part.tolist())


@pytest.mark.parametrize("scheme", ["", "90", "90/10", "90/5/6", "100/0/0", "a/b/c", "nanoGPT"])
def test_a_scheme_that_is_none_is_refused(scheme: str) -> None:
    with pytest.raises(ParameterError, match="choose nanogpt, or three percentages") as caught:
        split(np.zeros(10_000, np.uint16), scheme)
    assert caught.value.parameter == "split"


def test_a_corpus_too_small_is_told_what_is_enough() -> None:
    with pytest.raises(CorpusError, match=r"1,999 characters, too few .* 2,000 are enough"):
        split(np.zeros(1_999, np.uint16))
    assert len(split(np.zeros(2_000, np.uint16)).validation) == 100


def test_a_pass_reads_every_character_once_and_the_next_pass_starts_elsewhere() -> None:
    ids = np.arange(1200)
    lanes = Lanes(ids, lanes=4, length=50, seed=3)
    assert lanes.windows_per_pass == 6
    windows = list(itertools.islice(lanes.windows(), 12))
    first, second = windows[:6], windows[6:]
    for one_pass in (first, second):
        assert sorted(np.concatenate([w.inputs.ravel() for w in one_pass]).tolist()) == ids.tolist()
    assert first[0].inputs[0, 0] != second[0].inputs[0, 0]
    assert [window.fresh for window in windows] == ([True] + [False] * 5) * 2


def test_targets_are_one_character_on_and_windows_read_on() -> None:
    ids = np.arange(1200)
    before = None
    for window in itertools.islice(Lanes(ids, lanes=4, length=50, seed=0).windows(), 18):
        assert window.targets.tolist() == ((window.inputs + 1) % 1200).tolist()
        if before is not None and not window.fresh:
            assert window.inputs[:, 0].tolist() == before.targets[:, -1].tolist()
        before = window


def test_a_seed_fixes_the_places_read() -> None:
    def read(seed: int) -> list[int]:
        lanes = Lanes(np.arange(999), lanes=3, length=20, seed=seed)
        return [int(w.inputs[0, 0]) for w in itertools.islice(lanes.windows(), 40)]

    assert read(1) == read(1)
    assert read(1) != read(2)


def test_the_budget_that_ends_first_counts() -> None:
    assert Budget(steps=100).progress(25, elapsed=1e9) == 0.25
    assert Budget(seconds=60).progress(10**9, elapsed=15) == 0.25
    assert Budget(steps=100, seconds=60).progress(25, elapsed=45) == 0.75


def test_the_rate_warms_up_peaks_and_falls_to_zero() -> None:
    rates = [rate(4e-3, step, step / 2000) for step in range(2001)]
    assert rates[0] == pytest.approx(4e-3 / 50)
    assert max(rates) == pytest.approx(4e-3, rel=0.01)
    assert rates[1000] == pytest.approx(2e-3)
    assert rates[2000] == 0
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))
