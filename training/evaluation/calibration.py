"""The softmax temperature at which a network predicts held-out text best, and the output layer scaled by it.

Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural networks", section 4.2: one number, fitted on the
validation part, by which all logits are divided. It changes no ranking, only how sure the network is. With β = 1 / T
and z the logits of a place whose next id is y, the cross-entropy

    L(β) = Σ log Σ_k exp(β z_k) - β z_y,    L′ = Σ E_β[z] - z_y,    L″ = Σ Var_β[z] ≥ 0

is convex in β, so Newton's method finds the one minimum in a few passes over the text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network import Network
from model.text.utf8_ids import Ids
from training.evaluation.network_reader import read_rows
from training.evaluation.protocols import alone, carried

MOST_IDS = 1 << 16  # of the text that are read: one number needs no more
MOST = 4.0  # the temperature is sought from a quarter to this; beyond, the text is not what the network learnt
PASSES = 12  # at most; Newton's method needs three or four from anywhere near
CLOSE = 1e-4  # relative change of the temperature that ends the search: worth less than 1e-8 nats


def fit_temperature(
    network: Network,
    ids: Ids,
    batch_size: int | None = None,
    threads: int | None = None,
    separator: Sequence[int] = (),
) -> float:
    """The temperature with the least cross-entropy on a text (n,), read with the state carried, in fp32.

    ids: the validation part; its first 65,536 are read. batch_size: as for `carried`; threads: as for
    `read_rows`. separator: the ids that end an item of a list, whose items are read alone. The network is not changed.
    """
    low, high = 1 / MOST, MOST  # β is between them: L′ < 0 to the left of the minimum, > 0 to the right
    beta = 1.0
    for _ in range(PASSES):
        slope, curvature = _derivatives(network, ids, batch_size, threads, separator, beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        following = beta - slope / curvature if curvature > 0 else (high if slope < 0 else low)
        if not low < following < high:  # too far: halve what is left, by ratio
            following = (low * high) ** 0.5
        change, beta = abs(following / beta - 1), following
        if change < CLOSE:
            break
    return 1 / beta


def _derivatives(
    network: Network,
    ids: Ids,
    batch_size: int | None,
    threads: int | None,
    separator: Sequence[int],
    beta: float,
) -> tuple[float, float]:
    """L′ and L″ at β."""
    slope = curvature = 0.0

    def judge(logits: Tensor, targets: Tensor) -> tuple[float, float]:
        logits = logits.float()
        logits = logits - logits.gather(2, targets[..., None])  # now z_y = 0, and small sums stay exact
        p = torch.softmax(beta * logits, 2)
        mean = (p * logits).sum(2)
        variance = (p * logits * logits).sum(2) - mean * mean
        return float(mean.double().sum()), float(variance.double().sum())

    def read(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        nonlocal slope, curvature
        found, state = read_rows(network, (inputs, targets), state, judge, threads=threads)
        slope += sum(first for first, _ in found)
        curvature += sum(second for _, second in found)
        return 0.0, state

    mode = network.training
    network.eval()
    if separator:
        alone(read, ids, separator, MOST_IDS)
    else:
        carried(read, ids[:MOST_IDS], batch_size)
    network.train(mode)
    return slope, curvature


def scale_output(tensors: Mapping[str, NDArray[np.float32]], temperature: float) -> dict[str, NDArray[np.float32]]:
    """A checkpoint's tensors with 1 / temperature folded into the output layer.

    What they give at temperature 1 is what the given ones give at `temperature`.
    """
    folded = {name: tensors[name] / np.float32(temperature) for name in ("out.weight", "out.bias")}
    return {**tensors, **folded}
