"""Rows of a running batch: slots that each hold a state and a sampler, read prompts, and draw text many ids a call."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.config import NetworkConfig
from model.sampling.sampler import RowSampling

Slots = Sequence[int] | NDArray[np.integer]


class Drawn(NamedTuple):
    """What some rows drew in some steps.

    ids: (B, steps). logprobs: ln p of each, (B, steps), and of the likeliest ids `top_ids` (B, steps, N) their
    `top_logprobs`; N is the most that any of the rows reports, a row's own come first, and the rest is to be ignored.
    None when no row reports any. All are of the model's own distribution, before temperature and penalties.
    counts: how many ids each row drew (B,), fewer than `steps` where its text ended; what stands after them is not
    meant. ended: 1 where a text is complete, 2 where it has drawn all it may, 0 elsewhere (B,). None where no row's
    text must match anything.
    """

    ids: NDArray[np.int32]
    logprobs: Array | None = None
    top_ids: NDArray[np.int32] | None = None
    top_logprobs: Array | None = None
    counts: NDArray[np.int32] | None = None
    ended: NDArray[np.int32] | None = None

    def place(self, rows: NDArray[np.intp], step: int, part: "Drawn") -> None:
        """Enter what some of the rows drew from a step on."""
        steps = slice(step, step + part.ids.shape[1])
        self.ids[rows, steps] = part.ids
        if self.logprobs is not None and part.logprobs is not None:
            self.logprobs[rows, steps] = part.logprobs
        for whole, some in ((self.top_ids, part.top_ids), (self.top_logprobs, part.top_logprobs)):
            if whole is not None and some is not None:
                whole[rows, steps, : some.shape[2]] = some
        if self.counts is not None and self.ended is not None:
            self.counts[rows] += part.ids.shape[1] if part.counts is None else part.counts
            self.ended[rows] = 0 if part.ended is None else part.ended


class Scored(NamedTuple):
    """How likely given ids were, among all ids the network knows, in natural logarithms.

    logprobs: ln p of each, (B, T). ranks: how many ids were likelier, (B, T). entropies: of the distribution each came
    from, (B, T), in nats. top_ids, top_logprobs: the likeliest ids instead, (B, T, N). states: numbers of the state
    after each id was read, (B, T, U). weights: of every id, (B, T, V), and what they add up to, `wholes` (B, T): its
    probability is weight / whole. None where not asked for.
    """

    logprobs: Array
    ranks: NDArray[np.int32] | None = None
    entropies: Array | None = None
    top_ids: NDArray[np.int32] | None = None
    top_logprobs: Array | None = None
    states: Array | None = None
    weights: Array | None = None
    wholes: NDArray[np.float64] | None = None


class Rows(Protocol):
    """Slots 0 … n-1. The caller decides what each slot is used for, and calls from one thread at a time."""

    @property
    def state(self) -> Array:
        """What each slot carries, (slots, floats), as `NetworkConfig.state_layout` lays it; its numbers may be read and
        written between calls."""

    def set(self, slot: int, sampling: RowSampling, last_id: int) -> None:
        """Let a slot draw as `sampling` says from now on, after it has read `last_id`; its state stays as it is."""

    def read(self, slots: Slots, ids: NDArray[np.int32]) -> None:
        """Read ids (B, T) into the states of the given slots (B,), drawing nothing."""

    def draw(self, slots: Slots, steps: int) -> Drawn:
        """Draw `steps` ids for each of the given slots (B,), each step reading what the one before drew.

        A row whose text ends draws fewer, and none in later calls.
        """

    def score(
        self,
        slots: Slots,
        ids: NDArray[np.int32],
        following: NDArray[np.int32],
        top: int | None = None,
        columns: NDArray[np.int32] | None = None,
        weights: bool = False,
    ) -> Scored:
        """Read ids (B, T) as `read` does, and say how likely those `following` each of them (B, T) were.

        top: also report ranks, entropies and this many of the likeliest ids; None reports log-probabilities alone.
        columns: also report these columns (U,) of the rows' states after each id, ascending; None reports none.
        weights: also report the whole distributions, T × V numbers a row.
        """


class AnyDecoder(Protocol):
    """A checkpoint ready to step, on a CPU or a GPU; see `model.decoding.decoder.Decoder`."""

    config: NetworkConfig
    ids: NDArray[np.int64]
    computes_here: bool
    """Whether its calls take the time of the thread that calls, rather than of a GPU that it waits for."""

    @property
    def where(self) -> str:
        """The quantization and what it runs on, in words."""

    def rows(self, slots: int) -> Rows:
        """Slots for the rows of a running batch, all in the initial state; for one thread at a time."""


class Step(Protocol):
    """One step of a network; see `model.decoding.numpy_step.NumpyStep`."""

    def advance(self, ids: NDArray[np.int32], state: Array) -> None:
        """Read one id (B,) per row into the state (B, floats), in place."""

    def logits(self, state: Array) -> Array:
        """The logits (B, S) of rows in a state (B, floats)."""

    def every_logits(self, state: Array) -> Array:
        """The logits of every id (B, V)."""


def empty_drawn(rows: Sequence[RowSampling], steps: int) -> Drawn:
    """Room for what some rows draw in `steps` steps."""
    ids = np.zeros((len(rows), steps), np.int32)  # an id also where a row draws none
    counts = ended = None
    if any(row.walk is not None for row in rows):
        counts, ended = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int32)
    reported = [row.logprobs for row in rows if row.logprobs is not None]
    if not reported:
        return Drawn(ids, counts=counts, ended=ended)
    top = (len(rows), steps, max(reported))
    logprobs, top_ids = np.empty((len(rows), steps), np.float32), np.empty(top, np.int32)
    return Drawn(ids, logprobs, top_ids, np.empty(top, np.float32), counts, ended)


def empty_scored(
    rows: int, steps: int, top: int | None, vocabulary: int, traced: int | None = None, *, weights: bool = False
) -> Scored:
    """Room for the scores of `rows` rows in `steps` steps, with up to `top` likeliest ids of `vocabulary` each.

    traced: numbers of the state after each step; None has no room for any. weights: with room for the distributions.
    """
    states = None if traced is None else np.empty((rows, steps, traced), np.float32)
    scored = Scored(np.empty((rows, steps), np.float32), states=states)
    if weights:
        every = np.empty((rows, steps, vocabulary), np.float32)
        scored = scored._replace(weights=every, wholes=np.empty((rows, steps)))
    if top is None:
        return scored
    shape = (rows, steps, min(top, vocabulary))
    ranks, entropies = np.empty((rows, steps), np.int32), np.empty((rows, steps), np.float32)
    tops = np.empty(shape, np.int32), np.empty(shape, np.float32)
    return scored._replace(ranks=ranks, entropies=entropies, top_ids=tops[0], top_logprobs=tops[1])
