"""Attention over a window on a GPU: fixed shapes, so that it can be captured as a graph, and sums in a fixed
order."""

import torch
from torch import Tensor

from model.cells.attention import BLOCK, FOLLOWED, GROUP, KEY, KEY_LEVELS, KEYS, NEWEST, SCALE
from model.cells.state_layout import StateLayout

MOST_GAP = 60.0  # as in numpy_attention.py


class CudaAttention:
    """Like `model.cells.numpy_attention.NumpyAttention`, with tensors and in floats.

    layout: of a state. recency: the score added for each distance (window - 1,).
    """

    def __init__(self, layout: StateLayout, recency: Tensor) -> None:
        self._keys, self._followed, self._newest = layout[KEYS], layout[FOLLOWED], layout[NEWEST]
        self._window = len(recency) + 1
        self._places = torch.arange(self._window, device=recency.device)
        self._recency = torch.cat([recency, recency.new_zeros(1)])  # of distances 1 … window - 1, and of 0

    def remember(self, ids: Tensor, projected: Tensor, state: Tensor) -> Tensor:
        """The attention's part of a state (B, floats) after ids (B,) with projections (B, outputs)."""
        newest = state[:, self._newest]  # (B, 1)
        place = newest % self._window
        followed = torch.where(self._places == newest - 1, ids[:, None].float() + 1, state[:, self._followed])
        followed = torch.where(self._places == place, 0.0, followed)
        key = (projected[:, KEY : 2 * KEY].tanh() * KEY_LEVELS).round().to(torch.int8)
        mine = (self._places == place).view(len(state), -1, 1, BLOCK, 1)
        keys = torch.where(mine, key.view(len(state), 1, KEY // GROUP, 1, GROUP), self._ring(state))
        return torch.cat([keys.flatten(1).view(torch.float32), followed, place + 1], dim=1)

    def point(self, projected: Tensor, state: Tensor, logits: Tensor, columns: Tensor) -> Tensor:
        """Logits (B, S) whose distribution is the mixture. columns: the column of each id (V,), S for none."""
        keys = self._ring(state).transpose(2, 3).reshape(len(state), self._window, KEY).float()
        followed = state[:, self._followed]
        distance = (state[:, self._newest] - 1 - self._places).long() % self._window
        scores = (keys @ projected[:, :KEY, None])[..., 0] * SCALE + self._recency[distance - 1]
        most = torch.where(followed > 0, scores, -torch.inf).amax(1, keepdim=True)
        shares = torch.where(followed > 0, (scores - most).exp(), 0.0)
        column = columns[(followed.long() - 1).clamp(min=0)]
        # Each place gets the sum of all that say the same, so that it does not matter which of them is written last.
        same = torch.where(column[:, :, None] == column[:, None], shares[:, None], 0.0).sum(2)
        mass = logits.new_zeros(len(state), logits.shape[1] + 1).scatter(1, column, same)[:, :-1]
        largest = logits.amax(1, keepdim=True)
        weights = (logits - largest).exp()
        gap = (most - projected[:, 2 * KEY : 2 * KEY + 1]).clamp(max=MOST_GAP)
        mixed = largest + (weights + weights.sum(1, keepdim=True) * gap.exp() * mass).log()
        return torch.where(mass > 0, mixed, logits)

    def _ring(self, state: Tensor) -> Tensor:
        """The keys of rows, int8 (B, window / 16, KEY / 4, 16, 4)."""
        whole = state[:, self._keys].contiguous().view(torch.int8)
        return whole.view(len(state), self._window // BLOCK, KEY // GROUP, BLOCK, GROUP)
