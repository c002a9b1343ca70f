"""The reader of a network in PyTorch."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from model.network import Network
from training.evaluation.readers import Reader


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
