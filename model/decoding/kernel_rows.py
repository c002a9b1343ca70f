"""Steps and draws of many rows by the compiled kernel, each in one call that runs without Python's lock."""

from ctypes import POINTER, Structure, byref, c_int32, c_int64, c_void_p
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.kernel_library import function
from model.decoding.kernel_weights import KernelWeights, NetworkStruct
from model.decoding.rows import Drawn, Scored, Slots, empty_drawn, empty_scored
from model.sampling.parameters import GREEDY_BELOW
from model.sampling.random_numbers import source
from model.sampling.sampler import RowSampling
from model.sampling.transitions import CODES, DEEPEST, Walk

SLICE = 64  # rows × steps the kernel reads at once: the scratch of their products stays in the second-level cache

SLOT = np.dtype(
    [
        ("source", "u8"),
        ("position", "i8"),
        ("drawn", "u8"),
        ("in_prompt", "u8"),
        ("bias", "u8"),
        ("next", "u8"),
        ("classes", "u8"),
        ("shortest", "u8"),
        ("complete", "u8"),
        ("calls", "u8"),
        ("depths", "u8"),
        ("left", "i8"),
        ("top_p", "f8"),
        ("typical_p", "f8"),
        ("temperature", "f4"),
        ("min_p", "f4"),
        ("repetition", "f4"),
        ("presence", "f4"),
        ("frequency", "f4"),
        ("greedy", "i4"),
        ("top_k", "i4"),
        ("last", "i4"),
        ("class_count", "i4"),
        ("state", "i4"),
        ("ended", "i4"),
        ("open", "i4"),
        ("owed", "i4"),
        ("stack", "i4", DEEPEST),
    ],
    align=True,
)
"""`slot` of kernel.h."""


class DrawnStruct(Structure):
    """`drawn` of kernel.h."""

    _fields_ = (
        ("ids", c_void_p),
        ("logprobs", c_void_p),
        ("top_ids", c_void_p),
        ("top_logprobs", c_void_p),
        ("top", c_int32),
        ("counts", c_void_p),
    )


class ScoredStruct(Structure):
    """`scored` of kernel.h."""

    _fields_ = (
        ("logprobs", c_void_p),
        ("ranks", c_void_p),
        ("entropies", c_void_p),
        ("top_ids", c_void_p),
        ("top_logprobs", c_void_p),
        ("weights", c_void_p),
        ("wholes", c_void_p),
        ("top", c_int32),
        ("states", c_void_p),
        ("columns", c_void_p),
        ("traced", c_int32),
    )


class Workspace:
    """Scratch memory of the kernel, as large as the largest call needed; one for each thread that calls."""

    def __init__(self, weights: KernelWeights) -> None:
        network = POINTER(NetworkStruct)
        self._bytes = function(
            f"workspace_bytes_{weights.processor}", network, c_int32, c_int32, c_int32, result=c_int64
        )
        self._weights = weights  # the network's structure points at its memory
        self._network = byref(weights.struct)
        self._sizes: dict[tuple[int, int, int], int] = {}
        self._memory = np.zeros(0, np.uint8)
        self._address = 0

    def address(self, rows: int, steps: int, judged: int = 0) -> int:
        """Where there is room for `rows` rows × `steps` steps, and for the logits of every id of `judged` of them."""
        size = self._sizes.get((rows, steps, judged))
        if size is None:
            size = self._sizes[rows, steps, judged] = self._bytes(self._network, rows, steps, judged)
        if size > len(self._memory) - 64:
            self._memory = np.zeros(size + 64, np.uint8)
            self._address = self._memory.ctypes.data + -self._memory.ctypes.data % 64
        return self._address


class KernelRows:
    """Rows by the kernel; see `model.decoding.rows.Rows`. state: the initial states (slots, floats), then theirs."""

    def __init__(self, weights: KernelWeights, state: Array) -> None:
        self.state: Final = state  # the kernel writes to this very memory
        self._workspace = Workspace(weights)
        self._address = state.ctypes.data
        self._table = np.zeros(len(state), SLOT)
        self._sampling: dict[int, RowSampling] = {}
        self._network = byref(weights.struct)
        self._read = function(f"read_{weights.processor}", *READ_ARGUMENTS)
        self._draw = function(f"draw_{weights.processor}", *DRAW_ARGUMENTS)
        self._judge = function(f"score_{weights.processor}", *SCORE_ARGUMENTS)
        self._vocabulary, self._units = weights.struct.vocabulary, weights.units
        self._column = {int(token): column for column, token in enumerate(weights.ids)}

    def set(self, slot: int, sampling: RowSampling, last_id: int) -> None:
        """See `Rows.set`."""
        parameters = sampling.parameters
        penalises = parameters.penalises
        self._sampling[slot] = sampling  # its counts are the kernel's to write to
        self._table[slot] = (
            source(parameters.seed, sampling.choice),
            sampling.position,
            sampling.drawn.ctypes.data if penalises else 0,
            sampling.in_prompt.ctypes.data if penalises else 0,
            sampling.bias.ctypes.data if penalises else 0,
            *_constraint(sampling.walk),
            parameters.top_p,
            parameters.typical_p,
            parameters.temperature,
            parameters.min_p,
            parameters.repetition_penalty,
            parameters.presence_penalty,
            parameters.frequency_penalty,
            parameters.temperature < GREEDY_BELOW,
            parameters.top_k,
            last_id,
            *_place(sampling.walk),
        )

    def read(self, slots: Slots, ids: NDArray[np.int32]) -> None:
        """See `Rows.read`."""
        at = self._checked(slots)
        if ids.ndim != 2 or len(ids) != len(at):
            raise IndexError(f"{len(at)} slots cannot read ids of shape {ids.shape}")
        width = max(1, SLICE // max(1, len(at)))
        for start in range(0, ids.shape[1], width):
            piece = np.ascontiguousarray(ids[:, start : start + width], np.int32)
            wrong = self._read(
                self._network,
                len(at),
                piece.shape[1],
                piece.ctypes.data,
                at.ctypes.data,
                self._address,
                self._workspace.address(len(at), piece.shape[1]),
            )
            refuse_unknown(wrong)

    def draw(self, slots: Slots, steps: int) -> Drawn:
        """See `Rows.draw`."""
        at = self._checked(slots)
        samplings = [self._sampling[slot] for slot in at.tolist()]
        stepwise = np.array([row.walk is not None and row.walk.stepwise for row in samplings], np.bool_)
        if not stepwise.any():
            return self._run(at, samplings, steps)
        drawn = empty_drawn(samplings, steps)
        others = np.flatnonzero(~stepwise)
        if len(others):
            drawn.place(others, 0, self._run(at[others], [samplings[row] for row in others], steps))
        self._draw_stepwise(at, samplings, drawn, np.flatnonzero(stepwise))
        return drawn

    def _draw_stepwise(
        self, at: NDArray[np.int32], samplings: list[RowSampling], drawn: Drawn, rows: NDArray[np.intp]
    ) -> None:
        """Draw for rows that must be asked after every id what may follow."""
        assert drawn.ended is not None
        for step in range(drawn.ids.shape[1]):
            drawn.ended[rows] = self._table["ended"][at[rows]]
            rows = rows[drawn.ended[rows] == 0]
            if not len(rows):
                return
            part = self._run(at[rows], [samplings[row] for row in rows], 1)
            drawn.place(rows, step, part)
            assert part.counts is not None
            for row, token, count in zip(rows.tolist(), part.ids[:, 0].tolist(), part.counts.tolist(), strict=True):
                walk = samplings[row].walk
                if count and walk is not None:
                    walk.take(self._column[token])
                    self._table["ended"][at[row]] = CODES[walk.ended]
        drawn.ended[rows] = self._table["ended"][at[rows]]

    def _run(self, at: NDArray[np.int32], samplings: list[RowSampling], steps: int) -> Drawn:
        """One call of the kernel."""
        drawn = empty_drawn(samplings, steps)
        wrong = self._draw(
            self._network,
            len(at),
            steps,
            at.ctypes.data,
            self._table.ctypes.data,
            self._address,
            byref(_addresses(drawn)),
            self._workspace.address(len(at), 1),
        )
        refuse_unknown(wrong)
        if drawn.ended is not None:
            drawn.ended[:] = self._table["ended"][at]
        return drawn

    def score(
        self,
        slots: Slots,
        ids: NDArray[np.int32],
        following: NDArray[np.int32],
        top: int | None = None,
        columns: NDArray[np.int32] | None = None,
        weights: bool = False,
    ) -> Scored:
        """See `Rows.score`."""
        at = self._checked(slots)
        if ids.ndim != 2 or len(ids) != len(at) or ids.shape != following.shape:
            raise IndexError(f"{len(at)} slots cannot score ids of shape {following.shape} after {ids.shape}")
        traced = None if columns is None else self._traced(columns)
        width = max(1, SLICE // max(1, len(at)))
        pieces = [
            self._score(at, ids[:, start : start + width], following[:, start : start + width], top, traced, weights)
            for start in range(0, ids.shape[1], width)
        ]
        if not pieces:
            return empty_scored(
                len(at), 0, top, self._vocabulary, None if traced is None else len(traced), weights=weights
            )
        return _joined(pieces)

    def _score(
        self,
        at: NDArray[np.int32],
        ids: NDArray[np.int32],
        following: NDArray[np.int32],
        top: int | None,
        columns: NDArray[np.int32] | None,
        weights: bool,
    ) -> Scored:
        rows, steps = ids.shape
        traced = None if columns is None else len(columns)
        scored = empty_scored(rows, steps, top, self._vocabulary, traced, weights=weights)
        ids, following = np.ascontiguousarray(ids, np.int32), np.ascontiguousarray(following, np.int32)
        wrong = self._judge(
            self._network,
            rows,
            steps,
            ids.ctypes.data,
            following.ctypes.data,
            at.ctypes.data,
            self._address,
            byref(_room(scored, columns)),
            self._workspace.address(rows, steps, rows * steps),
        )
        refuse_unknown(wrong)
        return scored

    def _traced(self, columns: NDArray[np.int32]) -> NDArray[np.int32]:
        """The columns as the kernel takes them. Raises IndexError where they are not units' columns, ascending."""
        columns = np.ascontiguousarray(columns, np.int32)
        if len(columns) and (columns[0] < 0 or columns[-1] >= self._units or np.any(np.diff(columns) <= 0)):
            raise IndexError(f"a state has {self._units} columns of units; trace some of them in ascending order")
        return columns

    def _checked(self, slots: Slots) -> NDArray[np.int32]:
        """The slots as the kernel takes them. Raises IndexError where there is no such slot: C does not check."""
        at = np.array(slots, np.int32)
        if len(at) and not 0 <= at.min() <= at.max() < len(self._table):
            raise IndexError(f"there are {len(self._table)} slots; those of {slots} are not all among them")
        return at


def _joined(pieces: list[Scored]) -> Scored:
    """The scores of one stretch of ids after the other."""
    parts: list[Any] = [None if part[0] is None else np.concatenate(part, axis=1) for part in zip(*pieces, strict=True)]
    return Scored(*parts)


def _room(scored: Scored, columns: NDArray[np.int32] | None) -> ScoredStruct:
    """Where the kernel writes scores, and the columns of states that it traces."""
    *scores, states, weights, wholes = [None if part is None else part.ctypes.data for part in scored]
    top = 0 if scored.top_ids is None else scored.top_ids.shape[2]
    if columns is None:
        return ScoredStruct(*scores, weights, wholes, top)
    return ScoredStruct(*scores, weights, wholes, top, states, columns.ctypes.data, len(columns))


def _addresses(drawn: Drawn) -> DrawnStruct:
    """Where the kernel writes what is drawn."""
    counts = None if drawn.counts is None else drawn.counts.ctypes.data
    if drawn.logprobs is None or drawn.top_ids is None or drawn.top_logprobs is None:
        return DrawnStruct(ids=drawn.ids.ctypes.data, counts=counts)
    return DrawnStruct(
        drawn.ids.ctypes.data,
        drawn.logprobs.ctypes.data,
        drawn.top_ids.ctypes.data,
        drawn.top_logprobs.ctypes.data,
        drawn.top_ids.shape[2],
        counts,
    )


def _constraint(walk: Walk | None) -> tuple[int, ...]:
    """Where the kernel finds what may be drawn, and how many ids."""
    if walk is None:
        return (0,) * 7
    table = walk.transitions
    calls = (table.calls.ctypes.data, table.depths.ctypes.data) if len(table.calls) else (0, 0)
    arrays = (table.next, table.classes, table.shortest, table.complete)
    return (*(array.ctypes.data for array in arrays), *calls, walk.left)


def _place(walk: Walk | None) -> tuple[Any, ...]:
    """Where in it a text is, as the last members of a slot have it."""
    if walk is None:
        return (0,) * 6
    table, returns = walk.transitions, walk.returns
    stack = np.zeros(DEEPEST, np.int32)
    stack[: len(returns)] = returns
    owed = table.least(returns)
    return table.next.shape[1], walk.state, CODES[walk.ended], len(returns), owed, stack


READ_ARGUMENTS: tuple[Any, ...] = (*(POINTER(NetworkStruct), c_int32, c_int32, c_void_p, c_void_p, c_void_p, c_void_p),)
DRAW_ARGUMENTS: tuple[Any, ...] = (
    *(POINTER(NetworkStruct), c_int32, c_int32, c_void_p, c_void_p, c_void_p),
    *(POINTER(DrawnStruct), c_void_p),
)
SCORE_ARGUMENTS: tuple[Any, ...] = (
    *(POINTER(NetworkStruct), c_int32, c_int32, c_void_p, c_void_p, c_void_p, c_void_p),
    *(POINTER(ScoredStruct), c_void_p),
)


def refuse_unknown(wrong: int) -> None:
    """Raise IndexError where the kernel found an id that the network does not have; numpy raises the same."""
    if wrong:
        raise IndexError("an id is not one of the network's")
