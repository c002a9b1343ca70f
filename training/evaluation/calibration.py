"""The softmax temperature at which a network predicts held-out text best, and the output layer scaled by it.

Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural networks", section 4.2: one number, fitted on the
validation part, by which all logits are divided. It changes no ranking, only how sure the network is. With β = 1 / T
and z the logits of a place whose next id is y, the cross-entropy

    L(β) = Σ log Σ_k exp(β z_k) - β z_y,    L′ = Σ E_β[z] - z_y,    L″ = Σ Var_β[z] ≥ 0

is convex in β, so Newton's method finds the one minimum in a few passes over the text. With attention what is pointed
at stays as it is, and only the output's own distribution is scaled: the loss is measured at a few temperatures instead.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.network import Network
from model.text.utf8_ids import Ids
from training.evaluation.network_reader import network_reader, read_rows
from training.evaluation.protocols import alone_in_pieces, carried_in_pieces
from training.evaluation.readers import Reader
from training.evaluation.sharing import BY_ONE, Measurement, Sharing

MOST_IDS = 1 << 16  # of the text that are read: one number needs no more
MOST = 4.0  # the temperature is sought from a quarter to this; beyond, the text is not what the network learnt
PASSES = 12  # at most; Newton's method needs three or four from anywhere near
WIDTHS = (0.3, 0.1)  # between the logarithms of three temperatures that the loss is measured at
CLOSE = 1e-4  # relative change of the temperature that ends the search: worth less than 1e-8 nats


def fit_temperature(
    network: Network,
    ids: Ids,
    batch_size: int | None = None,
    threads: int | None = None,
    separator: Sequence[int] = (),
    learn_after: Sequence[int] = (),
    sharing: Sharing = BY_ONE,
) -> float:
    """The temperature with the least cross-entropy on a text (n,), read with the state carried, in fp32.

    ids: the validation part; its first 65,536 are read. batch_size: as for `carried`; threads: as for
    `read_rows`. separator: the ids that end an item of a list, whose items are read alone; learn_after: as for `alone`.
    sharing: the processes that read together. The network is not changed.
    """

    def read_by(read: Reader) -> Measurement:
        if separator:
            return alone_in_pieces(read, ids, separator, sharing.count, MOST_IDS, learn_after)
        return carried_in_pieces(read, ids[:MOST_IDS], sharing.count, batch_size)

    if network.attention is not None:
        return _searched(network, read_by(network_reader(network, threads=threads)), sharing)
    derivatives = _Derivatives(network, threads)
    text = read_by(derivatives.read)
    low, high = 1 / MOST, MOST  # β is between them: L′ < 0 to the left of the minimum, > 0 to the right
    beta = 1.0
    for _ in range(PASSES):
        found = sharing.dealt([partial(derivatives.of, piece, beta) for piece in text.pieces])
        slope, curvature = (sum(sums) for sums in zip(*found, strict=True))
        low, high = (beta, high) if slope < 0 else (low, beta)
        following = beta - slope / curvature if curvature > 0 else (high if slope < 0 else low)
        if not low < following < high:  # too far: halve what is left, by ratio
            following = (low * high) ** 0.5
        change, beta = abs(following / beta - 1), following
        if change < CLOSE:
            break
    return 1 / beta


def _searched(network: Network, text: Measurement, sharing: Sharing) -> float:
    """The same with attention: the vertex of a parabola through losses at three temperatures, then at closer ones."""
    weight, bias = network.out.weight.data, network.out.bias.data

    def nats(log_beta: float) -> float:
        beta = math.exp(log_beta)
        network.out.weight.data, network.out.bias.data = weight * beta, bias * beta
        return float(sum(sharing.dealt(text.pieces)))

    middle = 0.0
    try:
        for width in WIDTHS:
            below, here, above = (nats(middle + step) for step in (-width, 0.0, width))
            bend, slope = above - 2 * here + below, (above - below) / 2
            step = -width * slope / bend if bend > 0 else -math.copysign(2 * width, slope)
            middle += min(max(step, -2 * width), 2 * width)
    finally:
        network.out.weight.data, network.out.bias.data = weight, bias
    return math.exp(-middle)


class _Derivatives:
    """Adds up L′ and L″ at some β over what is read."""

    def __init__(self, network: Network, threads: int | None) -> None:
        self._network, self._threads = network, threads
        self._beta = self._slope = self._curvature = 0.0

    def of(self, piece: Callable[[], float], beta: float) -> tuple[float, float]:
        """L′ and L″ at β of what a piece reads."""
        self._beta, self._slope, self._curvature = beta, 0.0, 0.0
        mode = self._network.training
        self._network.eval()
        piece()
        self._network.train(mode)
        return self._slope, self._curvature

    def read(self, inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        """A Reader that gives no nats."""
        found, state = read_rows(self._network, (inputs, targets), state, self._judge, threads=self._threads)
        self._slope += sum(first for first, _ in found)
        self._curvature += sum(second for _, second in found)
        return 0.0, state

    def _judge(self, logits: Tensor, targets: Tensor) -> tuple[float, float]:
        logits, targets = logits.float()[targets >= 0], targets[targets >= 0]  # (N, V), (N,): those that count
        logits = logits - logits.gather(1, targets[:, None])  # now z_y = 0, and small sums stay exact
        p = torch.softmax(self._beta * logits, 1)
        mean = (p * logits).sum(1)
        variance = (p * logits * logits).sum(1) - mean * mean
        return float(mean.double().sum()), float(variance.double().sum())


def scale_output(tensors: Mapping[str, NDArray[np.float32]], temperature: float) -> dict[str, NDArray[np.float32]]:
    """A checkpoint's tensors with 1 / temperature folded into the output layer.

    What they give at temperature 1 is what the given ones give at `temperature`.
    """
    folded = {name: tensors[name] / np.float32(temperature) for name in ("out.weight", "out.bias")}
    return {**tensors, **folded}
