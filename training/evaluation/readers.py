"""Readers that turn ids into losses: the PyTorch network's, and the decoder's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model.decoding.decoder import Decoder
from model.network import Network

Reader = Callable[[NDArray[np.int64], NDArray[np.int64], Any], tuple[float, Any]]
"""inputs (B, T), targets (B, T), state or None -> summed nats of the targets, next state (list of (B, H))."""


def network_reader(network: Network, bf16: bool = False) -> Reader:
    """Read with the PyTorch network, wherever it is, in evaluation mode; its training mode is put back after."""
    device = network.out.weight.device

    def read(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        mode = network.training
        network.eval()
        with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits, state = network(torch.from_numpy(inputs).to(device), state)
        network.train(mode)
        goal = torch.from_numpy(np.ascontiguousarray(targets)).to(device)
        nats = F.cross_entropy(logits.float().flatten(0, 1), goal.flatten(), reduction="sum")
        return float(nats), state

    return read


def decoder_reader(decoder: Decoder) -> Reader:
    """Read with the CPU decoder, as the text is served; it must have a column for every id."""

    def read(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        state = decoder.initial_state(len(inputs)) if state is None else np.stack(state, axis=1)
        nats = 0.0
        for at in range(inputs.shape[1]):
            logits, state = decoder.step(np.ascontiguousarray(inputs[:, at]), state)
            top = logits.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp((logits - top).astype(np.float64)).sum(axis=1)) + top[:, 0]
            nats += float((log_sum - logits[np.arange(len(logits)), targets[:, at]]).sum())
        return nats, list(state.swapaxes(0, 1))

    return read
