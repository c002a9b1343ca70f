"""Loss and gradient of a window whose rows are shared by threads, summed in a fixed order."""

from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network import Network, State, detach
from training.loop.masked_forward import read_window
from training.loop.masks import Masks
from training.planning.train_options import Precision
from training.row_threads import row_parts, side_by_side


class ParallelStep:
    """Reads windows forward and back, each thread some rows of them.

    The gradient is that of the whole batch, but for the rounding of sums; the same threads give the same bytes. Every
    thread beyond the first has a network of its own, which shares the weights and has its own gradients.

    threads: 1 reads the whole batch at once.
    """

    def __init__(self, network: Network, precision: Precision, threads: int) -> None:
        self.network, self.precision, self.threads = network, precision, threads
        self._replicas = [network, *(deepcopy(network) for _ in range(threads - 1))]

    def __call__(self, inputs: Tensor, targets: Tensor, state: State | None, masks: Masks) -> tuple[Tensor, State]:
        """Leave the gradient of a window in the network's parameters.

        inputs, targets: int64 (B, T). Returns the mean nats per id and the state after, both without a graph.
        """
        parts = row_parts(len(inputs), self.threads)
        replicas = self._replicas[: len(parts)]
        for replica in replicas:
            replica.zero_grad(set_to_none=True)
        for replica in replicas[1:]:  # the weights may have been put elsewhere, as their average is
            for own, shared in zip(replica.parameters(), self.network.parameters(), strict=True):
                own.data = shared.data
        read = [
            partial(
                self._read,
                replica,
                inputs[part],
                targets[part],
                None if state is None else [one[part] for one in state],
                masks.rows(part) if len(parts) > 1 else masks,
                len(inputs[part]) / len(inputs),
            )
            for replica, part in zip(replicas, parts, strict=True)
        ]
        losses, states = zip(*(side_by_side(read) if len(read) > 1 else [read[0]()]), strict=True)
        gradients = [[_gradient(weight) for weight in replica.parameters()] for replica in replicas]
        for others in gradients[1:]:
            torch._foreach_add_(gradients[0], others)
        return sum(losses[1:], losses[0]), [
            torch.cat(rows) if len(rows) > 1 else rows[0] for rows in zip(*states, strict=True)
        ]

    def _read(
        self, network: Network, inputs: Tensor, targets: Tensor, state: State | None, masks: Masks, share: float
    ) -> tuple[Tensor, State]:
        """Forward and back over some rows. share: of the batch that they are."""
        bf16 = self.precision == "bf16"
        # A cache of casts would be one for all threads, and each weight is cast once a step.
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=bf16, cache_enabled=False):
            logits, state = read_window(network, inputs, state, masks)
        # Flattened in the order the network computed them, (T, B, V): the other order would copy all logits.
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.t().flatten())
        loss = loss if share == 1 else loss * share
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), detach(state)


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
