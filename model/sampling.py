"""One next id per row of logits: temperature, top-k, top-p, min-p, penalties, and a seed of its own per row.

The random number of a draw is a pure function of (seed, choice, position), so a text does not depend on what is
drawn beside it; all arithmetic runs along a row, so neither do its probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ParameterError

Floats = NDArray[np.floating[Any]]

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
    seed: any whole number of 64 bits; the same seed draws the same text.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:  # also refuses NaN
                raise ParameterError(name, f"{name} is {value!r}; choose a number from {least:g} to {most:g}.")
        if self.top_p == 0:
            raise ParameterError("top_p", "top_p is 0; choose a share above 0, up to 1.")
        if not -(2**63) <= self.seed < 2**64:
            raise ParameterError("seed", "seed does not fit in 64 bits; choose a smaller whole number.")

    @property
    def penalises(self) -> bool:
        """Whether the draw depends on which characters occurred before."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

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
        self, parameters: SamplingParameters, ids: NDArray[np.int64], prompt: NDArray[Any], choice: int = 0
    ) -> None:
        """ids: the id of each column of the logits (S,); prompt: the prompt's ids (n,), which only the
        repetition penalty looks at; choice: which of several texts of one request this is."""
        self.parameters = parameters
        self.choice = choice
        self.drawn = np.zeros(len(ids) if parameters.penalises else 0, np.int64)
        self.in_prompt = np.isin(ids, prompt) if parameters.penalises else np.zeros(0, bool)

    def penalise(self, logits: Floats) -> Floats:
        """Logits (S,) of this row after its penalties."""
        used = self.in_prompt | (self.drawn > 0)
        penalty = self.parameters.repetition_penalty
        logits = np.where(used, np.where(logits > 0, logits / penalty, logits * penalty), logits)
        logits = logits - self.parameters.presence_penalty * (self.drawn > 0)
        return logits - self.parameters.frequency_penalty * self.drawn


class Sampler:
    """Draws one column for each of a fixed set of rows; made anew when rows come or go."""

    def __init__(self, rows: Sequence[RowSampling]) -> None:
        parameters = [row.parameters for row in rows]
        self._penalised = [(at, row) for at, row in enumerate(rows) if row.parameters.penalises]
        temperature = np.array([p.temperature for p in parameters])
        self._greedy = temperature < GREEDY_BELOW
        self._some_greedy, self._all_greedy = bool(self._greedy.any()), bool(self._greedy.all())
        self._temperature = np.where(self._greedy, 1.0, temperature).astype(np.float32)[:, None]
        self._seeds = np.array([p.seed % 2**64 for p in parameters], np.uint64)
        self._choices = np.array([row.choice for row in rows], np.uint64)
        self._filtered = np.flatnonzero([p.filters and p.temperature >= GREEDY_BELOW for p in parameters])
        chosen = [parameters[at] for at in self._filtered]
        self._top_k = np.array([p.top_k or 2**31 - 1 for p in chosen])[:, None]
        self._top_p = np.array([p.top_p for p in chosen])[:, None]
        self._min_p = np.array([p.min_p for p in chosen])[:, None]

    def sample(self, logits: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.int64]:
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

    def _draw(self, logits: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.int64]:
        columns: NDArray[np.intp]
        if self._all_greedy:
            columns = logits.argmax(axis=1)
            return columns
        weights = np.exp((logits - logits.max(axis=1, keepdims=True)) / self._temperature)
        uniforms = uniform(self._seeds, self._choices, positions)
        columns = invert(weights, uniforms)
        if len(self._filtered):
            kept, order = self._filter(weights[self._filtered])
            drawn = invert(kept, uniforms[self._filtered])
            columns[self._filtered] = np.take_along_axis(order, drawn[:, None], axis=1)[:, 0]
        if self._some_greedy:
            columns = np.where(self._greedy, logits.argmax(axis=1), columns)
        return columns

    def _filter(self, weights: Floats) -> tuple[Floats, NDArray[np.intp]]:
        """Weights (F, S) of the filtered rows, likeliest first, zero where dropped; and the column of each."""
        order = np.argsort(-weights, axis=1, kind="stable")
        weights = np.take_along_axis(weights, order, axis=1)
        weights = np.where(np.arange(weights.shape[1]) < self._top_k, weights, 0)
        running = np.cumsum(weights, axis=1, dtype=np.float64)
        before = running - weights  # the probability of everything likelier: 0 for the first, which always stays
        keep = (before < self._top_p * running[:, -1:]) & (weights >= self._min_p * weights[:, :1])
        return np.where(keep, weights, 0), order


def invert(weights: Floats, uniforms: NDArray[np.float64]) -> NDArray[np.intp]:
    """The column (B,) where the running sum of each row of weights (B, S) passes its uniform (B,) share."""
    running = np.cumsum(weights, axis=1, dtype=np.float64)
    columns: NDArray[np.intp] = (running <= (uniforms * running[:, -1])[:, None]).sum(axis=1)
    return columns


def uniform(
    seeds: NDArray[np.uint64], choices: NDArray[np.uint64], positions: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), a pure function of (seed, choice, position), by element.

    Each coordinate is folded in with the finaliser of SplitMix64 (Steele, Lea & Flood 2014), a bijection of
    64 bits, so two positions of one text never share a number's source.
    """
    mixed = _mix(_mix(_mix(seeds) ^ choices) ^ positions.astype(np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
