"""States of earlier prompts, found by the longest prefix that a new prompt shares with one of them."""

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ONE = np.uint64(1)

State = NDArray[np.float32]
Keys = NDArray[np.uint64]

ENTRY_BYTES = 384  # of an entry without its state; 352 measured with tracemalloc
DIGEST_BYTES = 16
SHORT = 4096  # ids; prompts up to this length have a key for every prefix, longer ones only for some
LEAST_STRIDE = 256  # ids between two states kept while one prompt is read
MOST_MARKS = 64  # of one prompt
MOST_CANDIDATES = 64  # prefixes of a long prompt that are kept when it is prepared
BLOCK = 1 << 16  # ids whose keys are computed at a time
LENGTHS = np.arange(1, SHORT + 1)
LENGTHS.setflags(write=False)
MOST_SALTS = 1024  # of namespaces, that are kept
FILTER = 1 << 17  # counters of the filter that makes most lookups unnecessary


class Prefixes(NamedTuple):
    """The prefixes of one prompt that may be looked up or stored.

    ids: the prompt without its last id (n,).
    owner: the model of the states.
    namespace: of the owner and the request; states of other namespaces are never found.
    lengths: of the prefixes, ascending; keys: one for each.
    digests: the ones that have been computed, by length.
    """

    owner: bytes
    namespace: bytes
    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    keys: Keys
    digests: dict[int, bytes]


class Hit(NamedTuple):
    """The state after the first `length` ids of a prompt; it must not be written to."""

    length: int
    state: State


class Statistics(NamedTuple):
    """The cache's counts since it was made, and its contents."""

    queries: int
    hits: int
    cached_tokens: int
    evictions: int
    entries: int
    bytes: int


class _Entry(NamedTuple):
    digest: bytes
    state: State
    owner: bytes


def marks(length: int) -> list[int]:
    """The numbers of ids of a prompt of `length` after which a state is stored: at equal distances, and at the
    end."""
    stride = LEAST_STRIDE
    while length > stride * MOST_MARKS:
        stride *= 2
    return [*range(stride, length, stride), length]


class PrefixCache:
    """Stores the states of the most recently used prompts, in at most `capacity` bytes; 0 stores none. For any
    thread.

    The key of a prefix is a 64-bit sum in which each id is weighted by a coefficient of its position, so that one
    cumulative sum gives the keys of all prefixes of a prompt. The coefficients are secret and new in each process. A
    key is only a hint: an entry found by its key must also have the keyed BLAKE2b digest of the same ids.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._secret = secrets.token_bytes(32)
        self._salts: dict[bytes, np.uint64] = {}
        self._coefficients = self._spread(np.arange(SHORT, dtype=np.uint64))
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._filter = np.zeros(FILTER, np.uint32)  # entries by the lowest bits of their keys
        self._lock = threading.Lock()
        self._bytes = 0
        self._queries = self._hits = self._cached_tokens = self._evictions = 0

    @property
    def statistics(self) -> Statistics:
        """The counters as they are now."""
        return Statistics(
            self._queries, self._hits, self._cached_tokens, self._evictions, len(self._entries), self._bytes
        )

    def prefixes(self, namespace: bytes, ids: NDArray[np.int32], owner: bytes = b"") -> Prefixes | None:
        """The prefixes of a prompt, to look them up; None if it has no prefix. Long prompts take a while."""
        if not self.capacity or not len(ids):
            return None
        namespace = owner + namespace
        ends = marks(len(ids))
        if len(ids) <= SHORT:
            lengths = LENGTHS[: len(ids)]
            keys = self._keys(ids, 0, self._salt(namespace))
        else:
            lengths, keys = self._some(namespace, ids, np.array(ends))
            ends = lengths.tolist()
        return Prefixes(owner, namespace, ids, lengths, keys, self._digests(namespace, ids, ends))

    def find(self, prefixes: Prefixes) -> Hit | None:
        """The state after the longest stored prefix."""
        with self._lock:
            self._queries += 1
            found = self._candidates(prefixes.keys)[::-1]
            for key, at in zip(prefixes.keys[found].tolist(), found.tolist(), strict=True):
                entry = self._entries.get(key)
                if entry is None:
                    continue
                length = int(prefixes.lengths[at])
                if entry.digest == self._digest(prefixes, length):
                    self._entries.move_to_end(key)
                    self._hits += 1
                    self._cached_tokens += length
                    return Hit(length, entry.state)
        return None

    def store(self, prefixes: Prefixes, length: int, state: State) -> None:
        """Store the state after the first `length` ids, one of `marks`; the state must not be changed any more."""
        size = state.nbytes + ENTRY_BYTES
        if size > self.capacity:
            return
        key = int(prefixes.keys[np.searchsorted(prefixes.lengths, length)])
        entry = _Entry(self._digest(prefixes, length), state, prefixes.owner)
        with self._lock:
            if self._entries.pop(key, None) is None:
                self._filter[key % FILTER] += 1
                self._bytes += size
            self._entries[key] = entry
            while self._bytes > self.capacity:
                self._remove(next(iter(self._entries)))
                self._evictions += 1

    def clear(self) -> None:
        """Forget all states."""
        with self._lock:
            self._evictions += len(self._entries)
            self._entries.clear()
            self._filter[:] = 0
            self._bytes = 0

    def forget(self, owner: bytes) -> None:
        """Remove the states of an owner."""
        with self._lock:
            for key in [key for key, entry in self._entries.items() if entry.owner == owner]:
                self._remove(key)

    def _remove(self, key: int) -> None:
        self._filter[key % FILTER] -= 1
        self._bytes -= self._entries.pop(key).state.nbytes + ENTRY_BYTES

    def _candidates(self, keys: Keys) -> NDArray[np.intp]:
        """Indices of the keys that may have an entry."""
        return self._filter[(keys % np.uint64(FILTER)).astype(np.intp)].nonzero()[0]

    def _some(
        self, namespace: bytes, ids: NDArray[np.int32], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Keys]:
        """Lengths and keys of a long prompt: the marks, and the longest of the prefixes that have an entry now."""
        lengths: list[NDArray[np.int64]] = []
        kept: list[Keys] = []
        carry = self._salt(namespace)
        for start in range(0, len(ids), BLOCK):
            keys = self._keys(ids[start : start + BLOCK], start, carry)
            carry = keys[-1]
            maybe = self._candidates(keys)
            pairs = zip(maybe.tolist(), keys[maybe].tolist(), strict=True)
            known = [at for at, key in pairs if key in self._entries][-MOST_CANDIDATES:]  # a hint, so without the lock
            own = ends[(ends > start) & (ends <= start + len(keys))] - start - 1
            at = np.union1d(np.array(known, np.int64), own)
            lengths.append(at + start + 1)
            kept.append(keys[at])
        every, keys = np.concatenate(lengths), np.concatenate(kept)
        others = np.flatnonzero(~np.isin(every, ends))
        keep = np.ones(len(every), bool)
        keep[others[:-MOST_CANDIDATES]] = False
        return every[keep], keys[keep]

    def _keys(self, ids: NDArray[np.int32], start: int, carry: np.uint64) -> Keys:
        """Keys of the prefixes that end in a block of a prompt, which begins after `start` ids whose key is `carry`."""
        if start + len(ids) <= SHORT:
            coefficients = self._coefficients[start : start + len(ids)]
        else:
            coefficients = self._spread(np.arange(start, start + len(ids), dtype=np.uint64))
        sums: Keys = (coefficients * (ids.astype(np.uint64) + ONE)).cumsum(dtype=np.uint64)
        return sums + carry

    def _salt(self, namespace: bytes) -> np.uint64:
        """The key of the empty prefix, a different one for each namespace."""
        salt = self._salts.get(namespace)
        if salt is None:
            digest = hashlib.blake2b(namespace, digest_size=8, key=self._secret, person=b"salt").digest()
            salt = np.uint64(int.from_bytes(digest, "little"))
            if len(self._salts) == MOST_SALTS:
                self._salts.clear()
            self._salts[namespace] = salt
        return salt

    def _spread(self, positions: Keys) -> Keys:
        """The coefficients of positions: SplitMix64 from a secret start (Steele, Lea & Flood 2014)."""
        mixed = (positions + np.frombuffer(self._secret[:8], np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))

    def _digests(self, namespace: bytes, ids: NDArray[np.int32], lengths: Sequence[int]) -> dict[int, bytes]:
        """The digests of some prefixes, in one pass over the ids."""
        running = hashlib.blake2b(namespace, digest_size=DIGEST_BYTES, key=self._secret)
        digests, done = {}, 0
        for length in lengths:
            running.update(np.ascontiguousarray(ids[done:length], np.int32).data)
            digests[length] = running.copy().digest()
            done = length
        return digests

    def _digest(self, prefixes: Prefixes, length: int) -> bytes:
        known = prefixes.digests.get(length)
        if known is None:
            known = self._digests(prefixes.namespace, prefixes.ids, [length])[length]
            prefixes.digests[length] = known
        return known
