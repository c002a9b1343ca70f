"""The online memory of one text: compiled, or in Python where nothing was compiled."""

from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.kernel_library import function, library
from model.online_memory.reference import ReferenceMemory
from model.online_memory.weights import ORDERS, WEIGHTS, MemoryWeights

MOST_CONTEXTS = 1 << 16  # kept of a text; those that were not used for the longest time are forgotten
SUCCESSORS_OF_A_CONTEXT = 2  # kept, in the mean
MOST_TIMES = 50.0  # ids that a weight counts as at most, so that it follows the text
HEADER = np.dtype(
    [
        ("contexts", "i4"),
        ("successors", "i4"),
        ("buckets", "i4"),
        ("free_context", "i4"),
        ("free_successor", "i4"),
        ("newest", "i4"),
        ("oldest", "i4"),
        ("length", "i4"),
        ("history", "i4", max(ORDERS)),
        ("seen", "i4", WEIGHTS),
        ("most", "f8"),
        ("weight", "f8", WEIGHTS),
    ],
    align=True,
)
"""`memory` of memory.c."""
CONTEXT, SUCCESSOR = 24, 12  # bytes of one


def memory_bytes(ids: int) -> int:
    """Bytes that the memory of a text of so many ids takes, at most: it does not grow."""
    contexts, successors, buckets = _sizes(ids)
    return HEADER.itemsize + 4 * buckets + CONTEXT * contexts + SUCCESSOR * successors


def _sizes(ids: int, most_contexts: int = MOST_CONTEXTS) -> tuple[int, int, int]:
    """Room for contexts and successors, and buckets. What is remembered does not depend on `ids`: none is too few."""
    most = len(ORDERS) * (ids + 1)
    contexts = min(most_contexts, most)
    return contexts, min(SUCCESSORS_OF_A_CONTEXT * most_contexts, most), 1 << (contexts - 1).bit_length()


class OnlineMemory:
    """What followed earlier occurrences of the last ids in the text read so far, of one text.

    weights: as the checkpoint has them. ids: how many the text has at most; None for a text without an end. most: how
    many ids a weight counts as at most. contexts: that are kept, 16 at least. compiled: False takes Python in any case.

    The memory of a text follows from its ids and the network's distributions alone: it is the same on every processor,
    and however the text was cut into pieces.
    """

    def __init__(
        self,
        weights: MemoryWeights,
        ids: int | None = None,
        *,
        most: float = MOST_TIMES,
        contexts: int = MOST_CONTEXTS,
        compiled: bool = True,
    ) -> None:
        contexts, successors, buckets = _sizes(contexts if ids is None else ids, contexts)
        self._score: Final = _compiled() if compiled else None
        self._python = None
        if self._score is None:
            self._python = ReferenceMemory(weights.values, contexts, successors, most)
            return
        size = HEADER.itemsize + 4 * buckets + CONTEXT * contexts + SUCCESSOR * successors
        self._bytes = np.zeros(size, np.uint8)
        header = self._header()
        header["contexts"], header["successors"], header["buckets"] = contexts, successors, buckets
        header["most"], header["weight"] = most, weights.values
        self._score[0](self._bytes.ctypes.data)

    def _header(self) -> Any:
        return self._bytes[: HEADER.itemsize].view(HEADER)[0]

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights as they are now, (WEIGHTS,)."""
        return tuple(self._python.weights if self._python is not None else self._header()["weight"].tolist())

    @property
    def compiled(self) -> bool:
        """Whether the kernel does the work."""
        return self._python is None

    @property
    def address(self) -> int:
        """Where the kernel finds it; of a compiled one."""
        return int(self._bytes.ctypes.data)

    def copy(self) -> "OnlineMemory":
        """Another that goes on from here."""
        other = object.__new__(OnlineMemory)
        other.__dict__.update(self.__dict__)
        if self._python is not None:
            other._python = self._python.copy()
        else:
            other._bytes = self._bytes.copy()
        return other

    def score(
        self,
        ids: NDArray[np.int32],
        following: NDArray[np.int32],
        weights: Array,
        whole: NDArray[np.float64],
        every: bool = False,
    ) -> tuple[Array, Array | None]:
        """Read ids (T,), and say how likely those `following` each of them (T,) were, which it learns.

        weights: exp of the network's logits less their largest, (T, V); whole: their sums (T,). Returns ln p of what
        followed (T,), and of every id (T, V) where `every` is asked for. Raises IndexError on an id beyond V.
        """
        if weights.ndim != 2 or not len(ids) == len(following) == len(weights) == len(whole):
            raise IndexError(f"a memory cannot score ids of shape {ids.shape} by distributions of {weights.shape}")
        ids, following = np.ascontiguousarray(ids, np.int32), np.ascontiguousarray(following, np.int32)
        weights, whole = np.ascontiguousarray(weights, np.float32), np.ascontiguousarray(whole, np.float64)
        if self._python is not None:
            if (
                len(ids)
                and not 0 <= min(ids.min(), following.min()) <= max(ids.max(), following.max()) < weights.shape[1]
            ):
                raise IndexError("an id is not one of the network's")
            logprobs, all_of_them = self._python.score(ids, following, weights, whole)
            return logprobs, all_of_them if every else None
        assert self._score is not None
        logprobs = np.empty(len(ids), np.float32)
        full = np.empty(weights.shape, np.float32) if every else None
        room = np.empty(weights.shape[1] if every else 0)
        wrong = self._score[1](
            self._bytes.ctypes.data,
            *(len(ids), weights.shape[1]),
            *(one.ctypes.data for one in (ids, following, weights, whole, logprobs)),
            None if full is None else full.ctypes.data,
            room.ctypes.data,
        )
        if wrong:
            raise IndexError("an id is not one of the network's")
        return logprobs, full

    def expect(self, last: int, weights: Array, whole: float) -> Array:
        """How likely every id is after the last one of the text, which `score` learns next: ln p (V,).

        weights, whole: as `score` has them, (V,) and their sum. Raises IndexError on an id beyond V.
        """
        if not 0 <= last < len(weights):
            raise IndexError("an id is not one of the network's")
        if self._python is not None:
            return self._python.expect(last, weights, whole)
        assert self._score is not None
        weights = np.ascontiguousarray(weights, np.float32)
        full, room = np.empty(len(weights), np.float32), np.empty(len(weights))
        arrays = room.ctypes.data, full.ctypes.data
        self._score[3](self._bytes.ctypes.data, len(weights), last, weights.ctypes.data, whole, *arrays)
        return full


def score_rows(
    memories: Sequence[OnlineMemory | None],
    ids: NDArray[np.int32],
    following: NDArray[np.int32],
    scored: tuple[Array, Array, NDArray[np.float64]],
) -> None:
    """`OnlineMemory.score` of many texts side by side (B, T), each by its own memory; of those without nothing changes.

    scored: ln p of what followed (B, T), which is replaced, weights (B, T, V) and wholes (B, T), all without gaps.
    """
    logprobs, weights, wholes = scored
    compiled = _compiled()
    if compiled is None or not all(memory is None or memory.compiled for memory in memories):
        for row, memory in enumerate(memories):
            if memory is not None:
                logprobs[row] = memory.score(ids[row], following[row], weights[row], wholes[row])[0]
        return
    ids, following = np.ascontiguousarray(ids, np.int32), np.ascontiguousarray(following, np.int32)
    addresses = np.array([0 if memory is None else memory.address for memory in memories], np.uint64)
    arrays = (ids, following, weights, wholes, logprobs)
    if compiled[2](addresses.ctypes.data, *weights.shape, *(one.ctypes.data for one in arrays)):
        raise IndexError("an id is not one of the network's")


@cache
def _compiled() -> tuple[Any, Any, Any, Any] | None:
    """`memory_begin`, `memory_score`, `memory_score_rows`, `memory_expect`; None without this version of them."""
    compiled = library()
    if not hasattr(compiled, "memory_expect"):
        return None
    if function("memory_header_bytes", result=c_int64)() != HEADER.itemsize:
        return None
    from ctypes import c_double, c_int32

    return (
        function("memory_begin", c_void_p, result=None),
        function("memory_score", c_void_p, c_int32, c_int32, *(c_void_p,) * 7),
        function("memory_score_rows", c_void_p, c_int32, c_int32, c_int32, *(c_void_p,) * 5),
        function("memory_expect", c_void_p, c_int32, c_int32, c_void_p, c_double, c_void_p, c_void_p),
    )
