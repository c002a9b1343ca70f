"""The arithmetic of a step, defined so that every processor gives the same bits.

Only +, -, ×, ÷, comparison and rounding of IEEE 754 floats are used, one after the other and never fused, and whole
numbers for everything that is summed in an order of the processor's choice. A library's exp or tanh may differ in the
last bit from one machine to the next, and one bit is enough to draw another character. `model/kernel` computes the
same in C.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LEVELS = 127  # a hidden state h in [-1, 1] is kept as the whole number round(127 h)
BLOCK = 16  # weights in a block: a draw sums them in order within each block, then sums the blocks in order

# tanh(x) ≈ x P(x²) / Q(x²), a rational minimax approximation with the coefficients of the Eigen library, wrong by at
# most 4e-7; beyond the clamp it is exactly 1.
TANH_CLAMP = np.float32(7.90531110763549805)
TANH_P = tuple(
    map(
        np.float32,
        (
            -2.76076847742355e-16,
            2.00018790482477e-13,
            -8.60467152213735e-11,
            5.12229709037114e-08,
            1.48572235717979e-05,
            6.37261928875436e-04,
            4.89352455891786e-03,
        ),
    )
)
TANH_Q = tuple(
    map(np.float32, (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03))
)

# exp(x) = 2ⁿ exp(r) with n = round(x / ln 2); ln 2 in two parts so that x - n ln 2 loses nothing (Cody & Waite 1980).
EXP_LEAST = np.float32(-87)  # below, 2ⁿ would be no normal number; the weight is 0
LOG2_E = np.float32(1.44269504088896341)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
EXP_P = tuple(
    map(
        np.float32,
        (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
    )
)

# ln(m 2ⁿ) = n ln 2 + ln m with m from √½ to √2, and ln(1 + r) = r - r²/2 + r³ P(r) (Cephes).
ROOT_HALF = np.float32(0.70710678118654752)
LOG_P = tuple(
    map(
        np.float32,
        (
            *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
            *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
        ),
    )
)
LEAST_NORMAL = np.float32(2.0**-126)


def tanh(x: Array) -> Array:
    """The hyperbolic tangent, by element."""
    x = np.minimum(np.maximum(x, -TANH_CLAMP), TANH_CLAMP)
    square: Array = x * x
    return x * _polynomial(TANH_P, square) / _polynomial(TANH_Q, square)


def sigmoid(x: Array) -> Array:
    """The logistic function 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, by element."""
    half = np.float32(0.5)
    return half * tanh(half * x) + half


def exp(x: Array) -> Array:
    """exp of numbers that are at most 88, by element; 0 below -87."""
    x = np.asarray(x, np.float32)
    kept = np.maximum(x, EXP_LEAST)
    n: Array = np.rint(kept * LOG2_E)
    r: Array = kept - n * LN2_HIGH - n * LN2_LOW
    power = _polynomial(EXP_P, r) * (r * r) + r + np.float32(1)
    two_to_n = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    result: Array = np.where(x < EXP_LEAST, np.float32(0), power * two_to_n)
    return result


def log(x: Array) -> Array:
    """The natural logarithm of positive normal numbers, by element."""
    bits = np.ascontiguousarray(x, np.float32).view(np.int32)
    n = (bits >> 23) - 126
    m = (bits & 0x7FFFFF | 0x3F000000).view(np.float32)
    low = m < ROOT_HALF
    n = (n - low).astype(np.float32)
    r: Array = np.where(low, m + m, m) - np.float32(1)
    square: Array = r * r
    y = _polynomial(LOG_P, r) * r * square + n * LN2_LOW - np.float32(0.5) * square
    result: Array = r + y + n * LN2_HIGH
    return result


def _polynomial(coefficients: tuple[np.float32, ...], x: Array) -> Array:
    """The polynomial whose coefficients are given from the highest power down (Horner 1819)."""
    value: Any = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    result: Array = value
    return result


def levels(h: Array) -> Array:
    """A hidden state as whole numbers from -127 to 127, still in floats: round(127 h), ties to even."""
    whole: Array = np.rint(h * np.float32(LEVELS))
    return whole


def block_sums(weights: Array) -> NDArray[np.float64]:
    """The sums (B, ⌈S / 16⌉) of blocks of 16 weights (B, S), each added up from its first to its last."""
    rows, columns = weights.shape
    padded = np.zeros((rows, -(-columns // BLOCK) * BLOCK))
    padded[:, :columns] = weights
    blocks = padded.reshape(rows, -1, BLOCK)
    sums = blocks[:, :, 0].copy()
    for at in range(1, BLOCK):
        sums += blocks[:, :, at]
    return sums


def total(weights: Array) -> NDArray[np.float64]:
    """The sum (B,) of each row of weights (B, S), block after block."""
    running: NDArray[np.float64] = np.cumsum(block_sums(weights), axis=1)[:, -1]
    return running
