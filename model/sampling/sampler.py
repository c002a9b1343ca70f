"""One next id per row of logits: temperature, top-k, top-p, min-p, typical-p, penalties, and a seed of its own per row.

The random number of a draw is a pure function of (seed, choice, position), so a text does not depend on what is
drawn beside it; all arithmetic runs along a row, so neither do its probabilities.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import BLOCK, Array, block_sums, exp, total
from model.sampling.parameters import GREEDY_BELOW, SamplingParameters
from model.sampling.random_numbers import uniform
from model.sampling.transitions import Walk


def bias_of(parameters: SamplingParameters, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """What is added to each column of the logits (S,), for all texts of a request; ids: the id of each column."""
    bias = np.zeros(len(ids) if parameters.penalises else 0, np.float32)
    if parameters.logit_bias:
        tokens = np.fromiter(parameters.logit_bias, np.int64, len(parameters.logit_bias))
        _, columns, chosen = np.intersect1d(ids, tokens, assume_unique=True, return_indices=True)
        bias[columns] = np.fromiter(parameters.logit_bias.values(), np.float64, len(tokens))[chosen]
    return bias


class RowSampling:
    """One row's side of the sampler: its parameters, which choice it is, and the characters it has used."""

    def __init__(
        self,
        parameters: SamplingParameters,
        ids: NDArray[np.int64],
        prompt: NDArray[Any],
        choice: int = 0,
        logprobs: int | None = None,
        walk: Walk | None = None,
        *,
        bias: NDArray[np.float32] | None = None,
    ) -> None:
        """ids: the id of each column of the logits (S,); prompt: the prompt's ids (n,), which only the
        repetition penalty looks at; choice: which of several texts of one request this is; logprobs: how many of
        the likeliest ids are reported beside the log-probability of the drawn one, None for neither;
        walk: the row's way through what its text must match, None for any text; bias: as `bias_of` has it, made here
        if not given."""
        self.parameters = parameters
        self.choice = choice
        self.walk = walk
        self.position = 0
        """How many ids the text has before the row's first draw."""
        self.logprobs = None if logprobs is None else min(logprobs, len(ids))
        self.drawn = np.zeros(len(ids) if parameters.penalises else 0, np.int32)
        self.in_prompt = np.isin(ids, prompt) if parameters.penalises else np.zeros(0, bool)
        self.bias = bias_of(parameters, ids) if bias is None else bias

    def of_choice(self, choice: int, walk: Walk | None = None) -> "RowSampling":
        """The same for another text of the prompt, which has drawn nothing and has a walk of its own; what does not
        change is shared."""
        other = copy(self)
        other.choice, other.walk = choice, walk
        other.drawn = np.zeros_like(self.drawn)
        return other

    def penalise(self, logits: Array) -> Array:
        """Logits (S,) of this row after its bias and its penalties."""
        logits = logits + self.bias
        used = self.in_prompt | (self.drawn > 0)
        penalty, presence, frequency = map(
            np.float32,
            (
                self.parameters.repetition_penalty,
                self.parameters.presence_penalty,
                self.parameters.frequency_penalty,
            ),
        )
        logits = np.where(used, np.where(logits > 0, logits / penalty, logits * penalty), logits)
        lowered: Array = logits - presence * (self.drawn > 0) - frequency * self.drawn.astype(np.float32)
        return lowered


class Sampler:
    """Draws one column for each of a fixed set of rows, in numpy: the definition the compiled kernel must equal."""

    def __init__(self, rows: Sequence[RowSampling]) -> None:
        parameters = [row.parameters for row in rows]
        self._penalised = [(at, row) for at, row in enumerate(rows) if row.parameters.penalises]
        self._walks = [(at, row.walk) for at, row in enumerate(rows) if row.walk is not None]
        self._greedy = np.array([p.temperature < GREEDY_BELOW for p in parameters], bool)
        self._temperature = np.where(self._greedy, 1, [p.temperature for p in parameters]).astype(np.float32)[:, None]
        self._seeds = np.array([p.seed % 2**64 for p in parameters], np.uint64)
        self._choices = np.array([row.choice for row in rows], np.uint64)
        self._filtered = np.flatnonzero([p.filters for p in parameters])
        chosen = [parameters[at] for at in self._filtered]
        self._top_k = np.array([p.top_k or 2**31 - 1 for p in chosen])[:, None]
        self._top_p = np.array([p.top_p for p in chosen])[:, None]
        self._min_p = np.array([p.min_p for p in chosen], np.float32)[:, None]
        self._typical = np.flatnonzero([p.typical_p < 1 for p in parameters])
        self._typical_p = np.array([parameters[at].typical_p for at in self._typical])[:, None]

    def sample(self, logits: Array, positions: NDArray[np.int64]) -> NDArray[np.intp]:
        """The drawn column (B,) of each row of logits (B, S).

        positions: how many characters each row has drawn before, (B,).
        """
        if self._penalised or self._walks:
            logits = logits.copy()
            for at, row in self._penalised:
                logits[at] = row.penalise(logits[at])
            for at, walk in self._walks:
                if not walk.free:
                    logits[at, ~walk.allowed()] = -np.inf
        columns = self._draw(logits, positions)
        for at, row in self._penalised:
            row.drawn[columns[at]] += 1
        return columns

    def _draw(self, logits: Array, positions: NDArray[np.int64]) -> NDArray[np.intp]:
        likeliest: NDArray[np.intp] = logits.argmax(axis=1)
        if self._greedy.all():
            return likeliest
        scaled: Array = (logits - logits.max(axis=1, keepdims=True)) / self._temperature
        weights = exp(scaled)
        if len(self._filtered):
            weights[self._filtered] = self._filter(weights[self._filtered])
        if len(self._typical):
            weights[self._typical] = keep_typical(weights[self._typical], scaled[self._typical], self._typical_p)
        drawn = invert(weights, uniform(self._seeds, self._choices, positions))
        return np.where(self._greedy, likeliest, drawn)

    def _filter(self, weights: Array) -> Array:
        """Weights (F, S) of the filtered rows, zero where dropped; equal ones count as likelier from left to right."""
        order = np.argsort(-weights, axis=1, kind="stable")
        rank = np.argsort(order, axis=1)
        weights = np.where(rank < self._top_k, weights, np.float32(0))
        running = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1, dtype=np.float64)
        before = np.pad(running[:, :-1], ((0, 0), (1, 0)))  # the sum of everything likelier: 0 for the likeliest
        in_nucleus = (before < self._top_p * total(weights)[:, None]) | (self._top_p >= 1)
        keep = np.take_along_axis(in_nucleus, rank, axis=1) & (weights >= self._min_p)
        return np.where(keep, weights, np.float32(0))


def keep_typical(weights: Array, scaled: Array, share: NDArray[np.float64]) -> Array:
    """Weights (F, S), zero but for the fewest that hold a `share` (F, 1) of them, the most typical first.

    scaled: (F, S) the logarithms of the weights, of all that are not zero yet. With p = weight / Σ weights, -ln p is
    ln Σ weights - scaled, and its mean ln Σ weights - Σ p · scaled: they differ by |Σ p · scaled - scaled|.
    """
    kept = weights > 0
    mean = total(weights * np.where(kept, scaled, np.float32(0))) / total(weights)
    near = np.where(kept, -np.abs(mean.astype(np.float32)[:, None] - scaled), np.float32(-np.inf))
    order = np.argsort(-near, axis=1, kind="stable")
    running = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1, dtype=np.float64)
    before = np.pad(running[:, :-1], ((0, 0), (1, 0)))
    among = (before < share * total(weights)[:, None]) | (share >= 1)
    return np.where(np.take_along_axis(among, np.argsort(order, axis=1), axis=1), weights, np.float32(0))


def invert(weights: Array, uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
    """The column (B,) where the running sum of each row of weights (B, S) passes its uniform (B,) share.

    The sum runs block after block (`arithmetic.block_sums`), then weight after weight in the block that passes.
    """
    rows = np.arange(len(weights))
    running = np.cumsum(block_sums(weights), axis=1)
    goal = uniforms * running[:, -1]
    block = (running <= goal[:, None]).sum(axis=1)
    value = np.where(block > 0, running[rows, block - 1], 0.0)
    column, last, open_ = block * BLOCK, np.zeros(len(weights), np.intp), np.ones(len(weights), bool)
    for _ in range(BLOCK):
        inside = np.minimum(column, weights.shape[1] - 1)
        weight = np.where(column < weights.shape[1], weights[rows, inside], 0)
        value = value + weight
        last = np.where(open_ & (weight > 0), column, last)  # the answer where rounding keeps the sum from passing
        open_ &= value <= goal
        column += 1
    return last
