"""The Reader that computes losses with the PyTorch network, and its distributions for a Reader with a memory."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.network import Network, State
from training.evaluation.online_memory import Distribute, Distributions
from training.evaluation.readers import Reader
from training.row_threads import default_threads, row_parts, side_by_side

Result = TypeVar("Result")


def read_rows(
    network: Network,
    window: tuple[NDArray[np.int64], NDArray[np.int64]],
    state: State | None,
    judge: Callable[[Tensor, Tensor], Result],
    *,
    threads: int | None = None,
    bf16: bool = False,
) -> tuple[list[Result], State]:
    """Read a window with the network as it is, without gradients, on a CPU with threads that share the rows.

    window: inputs (B, T), targets (B, T). judge: what is wanted of some rows, from their logits (B, T, V) and targets
    (B, T). threads: None takes the cores there are. Returns what was wanted of all rows in their order, and the next
    state.
    """
    device = network.out.weight.device
    inputs, targets = (torch.from_numpy(np.ascontiguousarray(part)) for part in window)

    def read(part: slice) -> tuple[Result, State]:
        before = None if state is None else [one[part] for one in state]
        with torch.no_grad():  # here, not around: each thread has its own modes
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16, cache_enabled=False):
                logits, after = network(inputs[part].to(device), before)
            return judge(logits, targets[part].to(device)), after

    rows = len(inputs)
    if device.type != "cpu":
        found = [read(slice(0, rows))]
    else:
        parts = row_parts(rows, default_threads(rows) if threads is None else threads)
        found = side_by_side([partial(read, part) for part in parts])
    results, states = zip(*found, strict=True)
    return list(results), [torch.cat(parts) for parts in zip(*states, strict=True)]


def network_reader(network: Network, bf16: bool = False, threads: int | None = None) -> Reader:
    """Read with the PyTorch network, wherever it is, in evaluation mode; its training mode is put back after.

    threads: as for `read_rows`.
    """

    def read(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        mode = network.training
        network.eval()
        nats, state = read_rows(network, (inputs, targets), state, _nats, threads=threads, bf16=bf16)
        network.train(mode)
        return sum(nats), state

    return read


def _nats(logits: Tensor, targets: Tensor) -> float:
    return float(F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum"))


def network_distributions(network: Network, threads: int | None = None) -> Distribute:
    """The distributions of the PyTorch network, in evaluation mode; its training mode is put back after."""

    def distribute(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[Distributions, Any]:
        mode = network.training
        network.eval()
        parts, state = read_rows(
            network, (inputs, targets), state, lambda logits, _: of_logits(logits), threads=threads
        )
        network.train(mode)
        return (np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])), state

    return distribute


def of_logits(logits: Tensor) -> Distributions:
    """The distributions of logits (B, T, V)."""
    logits = logits.detach().float()
    weights = (logits - logits.amax(2, keepdim=True)).exp().cpu()
    return weights.numpy(), weights.sum(2, dtype=torch.float64).numpy()
