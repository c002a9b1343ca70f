"""Log-probabilities, entropies and the likeliest ids of rows of logits."""

import math

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array, exp, total


def log_probabilities(logits: Array) -> Array:
    """ln p of every column of logits (B, S): of the model's own distribution, before temperature and penalties."""
    top, _, logs = _log_sums(logits)
    logprobs: Array = ((logits.astype(np.float64) - top) - logs[:, None]).astype(np.float32)
    return logprobs


def weights_of(logits: Array) -> tuple[Array, NDArray[np.float64]]:
    """exp of the logits (B, S) less the largest of their row, and what each row adds up to (B,)."""
    weights = exp(logits - logits.max(axis=1, keepdims=True))
    return weights, total(weights)


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
