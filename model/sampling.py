"""One next id per row of logits: temperature, top-k, top-p, min-p, penalties, and a seed of its own per row.

The random number of a draw is a pure function of (seed, choice, position), so a text does not depend on what is
drawn beside it; all arithmetic runs along a row, so neither do its probabilities.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import BLOCK, Array, block_sums, exp, total
from model.errors import ParameterError

LARGEST_BIAS = 100
GREEDY_BELOW = 1e-4  # a temperature under this would overflow the quotient; it means argmax


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParameters:
    """How the next character is drawn; the defaults draw from the model's own distribution.

    temperature: divides the logits; 0 takes the likeliest character always.
    top_k: draw among the k likeliest; 0 = all (Fan et al. 2018).
    top_p: draw among the fewest characters that hold this share of the probability; 1 = all (Holtzman et al. 2020).
    min_p: drop characters less likely than this share of the likeliest; 0 = none (Nguyen et al. 2024).
    repetition_penalty: divides positive and multiplies negative logits of characters in prompt or text;
        1 = none (Keskar et al. 2019).
    presence_penalty: subtracted from the logit of a character the text has; 0 = none.
    frequency_penalty: subtracted once per occurrence in the text; 0 = none.
    logit_bias: added to the logits of ids, by id, before the penalties; -100 as good as bans one. An id that is never
        drawn anyway may be named, too.
    seed: any whole number of 64 bits; the same seed draws the same text.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:  # also refuses NaN
                raise ParameterError(name, f"{name} is {value!r}; choose a number from {least:g} to {most:g}.")
        for token, bias in self.logit_bias.items():
            if not -LARGEST_BIAS <= bias <= LARGEST_BIAS:
                message = (
                    f"logit_bias of id {token} is {bias!r}; choose a number from -{LARGEST_BIAS} to {LARGEST_BIAS}."
                )
                raise ParameterError("logit_bias", message)
        if self.top_p == 0:
            raise ParameterError("top_p", "top_p is 0; choose a share above 0, up to 1.")
        if not -(2**63) <= self.seed < 2**64:
            raise ParameterError("seed", "seed does not fit in 64 bits; choose a smaller whole number.")

    @property
    def penalises(self) -> bool:
        """Whether logits are changed before the draw, by penalties or by a bias."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return penalties != (1.0, 0.0, 0.0) or bool(self.logit_bias)

    @property
    def filters(self) -> bool:
        """Whether some characters are left out of the draw."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_k": (0, 2**31 - 1),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 10),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
}


class RowSampling:
    """One row's side of the sampler: its parameters, which choice it is, and the characters it has used."""

    def __init__(
        self,
        parameters: SamplingParameters,
        ids: NDArray[np.int64],
        prompt: NDArray[Any],
        choice: int = 0,
        logprobs: int | None = None,
    ) -> None:
        """ids: the id of each column of the logits (S,); prompt: the prompt's ids (n,), which only the
        repetition penalty looks at; choice: which of several texts of one request this is; logprobs: how many of
        the likeliest ids are reported beside the log-probability of the drawn one, None for nothing at all."""
        self.parameters = parameters
        self.choice = choice
        self.logprobs = None if logprobs is None else min(logprobs, len(ids))
        self.drawn = np.zeros(len(ids) if parameters.penalises else 0, np.int32)
        self.in_prompt = np.isin(ids, prompt) if parameters.penalises else np.zeros(0, bool)
        self.bias = np.zeros(len(self.drawn), np.float32)
        for token, bias in parameters.logit_bias.items():
            self.bias[ids == token] = bias

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
        self._greedy = np.array([p.temperature < GREEDY_BELOW for p in parameters], bool)
        self._temperature = np.where(self._greedy, 1, [p.temperature for p in parameters]).astype(np.float32)[:, None]
        self._seeds = np.array([p.seed % 2**64 for p in parameters], np.uint64)
        self._choices = np.array([row.choice for row in rows], np.uint64)
        self._filtered = np.flatnonzero([p.filters for p in parameters])
        chosen = [parameters[at] for at in self._filtered]
        self._top_k = np.array([p.top_k or 2**31 - 1 for p in chosen])[:, None]
        self._top_p = np.array([p.top_p for p in chosen])[:, None]
        self._min_p = np.array([p.min_p for p in chosen], np.float32)[:, None]

    def sample(self, logits: Array, positions: NDArray[np.int64]) -> NDArray[np.intp]:
        """The drawn column (B,) of each row of logits (B, S).

        positions: how many characters each row has drawn before, (B,).
        """
        if self._penalised:
            logits = logits.copy()
            for at, row in self._penalised:
                logits[at] = row.penalise(logits[at])
        columns = self._draw(logits, positions)
        for at, row in self._penalised:
            row.drawn[columns[at]] += 1
        return columns

    def _draw(self, logits: Array, positions: NDArray[np.int64]) -> NDArray[np.intp]:
        likeliest: NDArray[np.intp] = logits.argmax(axis=1)
        if self._greedy.all():
            return likeliest
        weights = exp((logits - logits.max(axis=1, keepdims=True)) / self._temperature)
        if len(self._filtered):
            weights[self._filtered] = self._filter(weights[self._filtered])
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
        last = np.where(open_ & (weight > 0), column, last)  # the answer should rounding keep the sum from passing
        open_ &= value <= goal
        column += 1
    return last


def log_probabilities(logits: Array) -> Array:
    """ln p of every column of logits (B, S): of the model's own distribution, before temperature and penalties."""
    top, _, logs = _log_sums(logits)
    logprobs: Array = ((logits.astype(np.float64) - top) - logs[:, None]).astype(np.float32)
    return logprobs


def entropy(logits: Array) -> Array:
    """-Σ p ln p of each row of logits (B, S), in nats."""
    top, weights, logs = _log_sums(logits)
    mean = total(weights * (logits - top)) / total(weights)
    return (logs - mean).astype(np.float32)


def _log_sums(logits: Array) -> tuple[Array, Array, NDArray[np.float64]]:
    """The largest logit of each row (B, 1), exp of the differences to it (B, S), and ln of their sums (B,)."""
    top: Array = logits.max(axis=1, keepdims=True)
    weights = exp(logits - top)
    logs = np.array([math.log(value) for value in total(weights)])  # the C library's, as the compiled kernel has it
    return top, weights, logs


def likeliest(logprobs: Array, count: int) -> NDArray[np.intp]:
    """The columns (B, count) of the largest numbers of each row (B, S), largest first, from left to right if equal."""
    columns: NDArray[np.intp] = np.argsort(-logprobs, axis=1, kind="stable")[:, :count]
    return columns


def uniform(
    seeds: NDArray[np.uint64], choices: NDArray[np.uint64], positions: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), a pure function of (seed, choice, position), by element.

    Each coordinate is folded in with the finaliser of SplitMix64 (Steele, Lea & Flood 2014), a bijection of
    64 bits, so two positions of one text never share a number's source.
    """
    mixed = _mix(_source(seeds, choices) ^ positions.astype(np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def source(seed: int, choice: int) -> int:
    """What the numbers of one text are made from: its seed and choice, mixed."""
    return int(_source(np.array([seed % 2**64], np.uint64), np.array([choice], np.uint64))[0])


def _source(seeds: NDArray[np.uint64], choices: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return _mix(_mix(seeds) ^ choices)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
