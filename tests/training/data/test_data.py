"""Splits, batches and schedules: every character has its place, and every step its rate."""

import itertools
import json

import numpy as np
import pytest

from model.errors import CorpusError, ParameterError
from model.text.tokenizer import Tokenizer
from training.data.batches import Batches
from training.data.split import split
from training.planning.schedule import Budget, Decay, Schedule


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
    in_bytes = Tokenizer("a").encode("詩" * 2_000)  # three ids a character
    assert len(split(in_bytes).validation) == 300
    with pytest.raises(CorpusError, match="1,999 characters"):
        split(in_bytes[3:])


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


def test_the_budget_that_ends_first_counts() -> None:
    assert Budget(ids=100).progress(25, elapsed=1e9) == 0.25
    assert Budget(seconds=60).progress(10**9, elapsed=15) == 0.25
    assert Budget(ids=100, seconds=60).progress(25, elapsed=45) == 0.75


@pytest.mark.parametrize(("decay", "half"), [("cosine", 2e-3), ("linear", 2e-3), ("constant", 4e-3)])
def test_the_rate_warms_up_peaks_and_falls(decay: Decay, half: float) -> None:
    schedule = Schedule(4e-3, 50, decay)
    rates = [schedule.rate(step, step / 2000) for step in range(2001)]
    assert rates[0] == pytest.approx(4e-3 / 50)
    assert max(rates) == pytest.approx(4e-3, rel=0.06)  # a straight fall has begun when the warm-up ends
    assert rates[1000] == pytest.approx(half)
    assert rates[2000] == (4e-3 if decay == "constant" else 0)
    quarter = schedule.rate(1500, 0.75)
    assert quarter == pytest.approx({"cosine": 4e-3 * 0.1464466, "linear": 1e-3, "constant": 4e-3}[decay])
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))
