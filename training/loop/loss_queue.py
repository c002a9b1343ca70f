"""A queue of losses from the device, so that a step never waits for the result of the step before."""

import torch
from torch import Tensor

BEHIND = 8  # steps at most: with more the host would exceed a budget in seconds


class LossQueue:
    """Takes each step's loss and gradient norm, and returns them once they are known.

    On the CPU that is at once; those of a GPU come some steps later, in order.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._waiting: list[tuple[Tensor, torch.cuda.Event]] = []

    def put(self, loss: Tensor, norm: Tensor) -> list[tuple[float, float]]:
        """Take a step's loss and gradient norm; return those that are known by now."""
        pair = torch.stack([loss, norm])
        if self.device.type != "cuda":
            return [(float(pair[0]), float(pair[1]))]
        kept = torch.empty(2, pin_memory=True).copy_(pair, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._waiting.append((kept, event))
        return self._known(BEHIND)

    def drain(self) -> list[tuple[float, float]]:
        """Wait for all that were taken, and return them."""
        return self._known(0)

    def forget(self) -> None:
        """Drop what is waiting: its steps are undone."""
        self._waiting.clear()

    def _known(self, behind: int) -> list[tuple[float, float]]:
        known = []
        while self._waiting and (len(self._waiting) > behind or self._waiting[0][1].query()):  # type: ignore[no-untyped-call]
            kept, event = self._waiting.pop(0)
            event.synchronize()
            known.append((float(kept[0]), float(kept[1])))
        return known
