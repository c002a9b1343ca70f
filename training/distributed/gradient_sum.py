"""Sums the gradient of a step over several windows, and over the rows of other processes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.distributed.ranks import Ranks
from training.distributed.shared_rows import SharedRows, shared_rows
from training.planning.train_options import Compression


class Summed(NamedTuple):
    """What a step sums in addition to the gradient.

    loss: mean nats per id, a scalar on the device. asides: numbers of the processes, each summed over them, in fp32.
    """

    loss: Tensor
    asides: Sequence[float]


class GradientSum:
    """Adds up gradients in one buffer, in shared memory on one machine, otherwise with one message per step.

    parameters: whose gradients are summed. compression: the number format in which gradients are sent; the loss is
    sent in fp32.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: Ranks, compression: Compression) -> None:
        self.parameters, self.ranks, self.compression = list(parameters), ranks, compression
        self._sum: Tensor | None = None
        self._shared: SharedRows | None = None
        self._places: list[Tensor] = []
        self._added = False

    def add(self, loss: Tensor | None) -> None:
        """Add the parameters' current gradients, and their part of the step's loss, which is None without any."""
        if self._sum is None:
            self._make_buffer()
        assert self._sum is not None
        if loss is None:
            if not self._added:
                self._sum.zero_()
        elif self._added:
            torch._foreach_add_(self._places, [_gradient(weight) for weight in self.parameters])
            self._sum[self._size] += loss
        else:
            torch._foreach_copy_(self._places, [_gradient(weight) for weight in self.parameters])
            self._sum[self._size] = loss
        self._added = True

    def over_ranks(self, asides: Sequence[float]) -> Summed:
        """Sum over the processes, and leave the gradient in the parameters. asides: up to two numbers of this
        process."""
        assert self._sum is not None
        size, on_cpu = self._size, self._sum.device.type == "cpu"
        said = torch.tensor([*asides])
        if self.ranks.count > 1:
            if on_cpu:
                self._sum[size + 1 : size + 1 + len(said)] = said
            else:  # on the CPU, as reading them on the device would wait for it
                self.ranks.sum(said)
            if self._shared is not None:
                self._shared.sum()
            elif self.compression == "bf16":
                self.ranks.sum_in_bf16(self._sum[:size])
                self.ranks.sum(self._sum[size:])
            else:
                self.ranks.sum(self._sum)
            if on_cpu:
                said = self._sum[size + 1 : size + 1 + len(said)]
        for weight, place in zip(self.parameters, self._places, strict=True):
            weight.grad = place
        self._added = False
        return Summed(self._sum[size].clone(), said.tolist())

    def _make_buffer(self) -> None:
        sizes = [weight.numel() for weight in self.parameters]
        self._size = sum(sizes)
        device, size = self.parameters[0].device, self._size + 1 + ASIDES
        if device.type == "cpu" and self.compression == "none":
            self._shared = shared_rows(self.ranks, size)
        self._sum = torch.zeros(size, device=device) if self._shared is None else self._shared.own
        places = torch.split(self._sum[: self._size], sizes)
        self._places = [place.view_as(weight) for place, weight in zip(places, self.parameters, strict=True)]


ASIDES = 2  # the most numbers that are sent with a gradient


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
