"""The prefix cache finds the longest prefix that was kept, never anything else, and stays as small as it was told."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.engine import prefix_cache
from service.engine.prefix_cache import ENTRY_BYTES, SHORT, PrefixCache, Prefixes, marks

MINE, YOURS = b"m" * 32, b"y" * 32
STATE_BYTES = 64


def ids_of(values: list[int] | range) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def state_of(number: int) -> NDArray[np.float32]:
    return np.full((2, STATE_BYTES // 8), number, np.float32)


def prefixes_of(cache: PrefixCache, ids: NDArray[np.int32], namespace: bytes = MINE) -> Prefixes:
    prefixes = cache.prefixes(namespace, ids)
    assert prefixes is not None
    return prefixes


def store(cache: PrefixCache, ids: NDArray[np.int32], number: int, namespace: bytes = MINE) -> None:
    cache.store(prefixes_of(cache, ids, namespace), len(ids), state_of(number))


def find(cache: PrefixCache, ids: NDArray[np.int32], namespace: bytes = MINE) -> tuple[int, int] | None:
    """How long a prefix was found, and the number in its state."""
    hit = cache.find(prefixes_of(cache, ids, namespace))
    return None if hit is None else (hit.length, int(hit.state[0, 0]))


PROMPTS = st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 2), min_size=1, max_size=8)), max_size=12)


@given(PROMPTS, PROMPTS)
def test_the_longest_prefix_of_ones_own_is_found(
    stored: list[tuple[bool, list[int]]], asked: list[tuple[bool, list[int]]]
) -> None:
    cache = PrefixCache(1 << 20)
    for number, (mine, values) in enumerate(stored):
        store(cache, ids_of(values), number, MINE if mine else YOURS)
    for mine, values in asked:
        fitting = [
            (len(other), number)
            for number, (whose, other) in enumerate(stored)
            if whose == mine and values[: len(other)] == other
        ]
        assert find(cache, ids_of(values), MINE if mine else YOURS) == max(fitting, default=None)


def test_a_key_alone_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With keys that all collide, what is found still has exactly the ids that were asked for."""

    def colliding(cache: PrefixCache, ids: Any, start: int, carry: Any) -> Any:  # noqa: ARG001
        return np.full(len(ids), 7, np.uint64)

    monkeypatch.setattr(PrefixCache, "_keys", colliding)
    cache = PrefixCache(1 << 20)
    store(cache, ids_of([1, 2, 3]), 5)
    assert find(cache, ids_of([1, 2, 3, 4])) == (3, 5)
    assert find(cache, ids_of([1, 2, 4, 4])) is None
    assert find(cache, ids_of([1, 2, 3]), YOURS) is None


def test_those_used_last_stay() -> None:
    size = STATE_BYTES + ENTRY_BYTES
    cache = PrefixCache(3 * size + 10)
    for number in range(3):
        store(cache, ids_of([number]), number)
    assert find(cache, ids_of([0])) == (1, 0)
    store(cache, ids_of([3]), 3)
    assert [find(cache, ids_of([number])) for number in range(4)] == [(1, 0), None, (1, 2), (1, 3)]
    store(cache, ids_of([0]), 0)  # stored again: used, not kept twice
    store(cache, ids_of([4]), 4)
    assert [find(cache, ids_of([number])) for number in range(5)] == [(1, 0), None, None, (1, 3), (1, 4)]
    told = cache.statistics
    assert (told.entries, told.bytes, told.evictions) == (3, 3 * size, 2)


def test_after_it_is_cleared_it_holds_nothing_and_keeps_again() -> None:
    cache = PrefixCache(1 << 20)
    for number in range(5):
        store(cache, ids_of([number]), number)
    cache.clear()
    assert (cache.statistics.entries, cache.statistics.bytes, cache.statistics.evictions) == (0, 0, 5)
    assert find(cache, ids_of([1, 2])) is None
    store(cache, ids_of([1]), 7)
    assert find(cache, ids_of([1, 2])) == (1, 7)


def test_its_counters_tell_what_it_spared() -> None:
    cache = PrefixCache(1 << 20)
    store(cache, ids_of([1, 2, 3]), 0)
    find(cache, ids_of([1, 2, 3, 4]))
    find(cache, ids_of([4]))
    told = cache.statistics
    assert (told.queries, told.hits, told.cached_tokens) == (2, 1, 3)


def test_nothing_is_kept_where_there_is_no_room() -> None:
    assert PrefixCache(0).prefixes(MINE, ids_of([1])) is None
    small = PrefixCache(STATE_BYTES)
    store(small, ids_of([1]), 0)
    assert find(small, ids_of([1])) is None
    assert small.statistics.bytes == 0


def test_a_prompt_of_one_id_has_no_prefix() -> None:
    assert PrefixCache(1 << 20).prefixes(MINE, ids_of([])) is None


@given(st.integers(0, 2_000_000))
def test_states_are_kept_at_few_places_and_at_the_end(length: int) -> None:
    kept = marks(length)
    assert kept[-1] == length
    assert kept == sorted(set(kept))
    assert len(kept) <= 65
    strides = {after - before for before, after in pairwise(kept[:-1])}
    assert len(strides) <= 1
    assert all(stride >= 256 and stride & (stride - 1) == 0 for stride in strides)


@pytest.mark.parametrize("block", [1 << 16, 1000])
def test_a_long_prompt_is_found_by_its_marks_and_by_what_it_continues(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "BLOCK", block)
    cache = PrefixCache(1 << 20)
    ids = np.random.default_rng(0).integers(0, 300, 3 * SHORT).astype(np.int32)
    prefixes = prefixes_of(cache, ids)
    assert len(prefixes.lengths) < 70
    cache.store(prefixes, 1024, state_of(1))
    assert find(cache, ids) == (1024, 1)
    other = ids.copy()
    other[1024] += 1
    assert find(cache, other) == (1024, 1)
    store(cache, ids[:1111], 2)
    store(cache, ids[: SHORT + 77], 3)
    assert find(cache, other) == (1024, 1)
    assert find(cache, ids[: SHORT + 50]) == (1111, 2)
    assert find(cache, ids) == (SHORT + 77, 3)
    other = ids.copy()
    other[1023] += 1
    assert find(cache, other) is None


def test_of_many_short_continuations_a_long_prompt_remembers_the_longest() -> None:
    cache = PrefixCache(1 << 20)
    ids = np.arange(2 * SHORT, dtype=np.int32)
    for length in range(1000, 1200):
        store(cache, ids[:length], length)
    assert find(cache, ids) == (1199, 1199)


def test_what_changes_keys_from_start_to_start_is_secret() -> None:
    one, other = (prefixes_of(PrefixCache(1 << 20), ids_of(range(9))) for _ in range(2))
    assert not np.isin(one.keys, other.keys).any()
    assert one.digests != other.digests
