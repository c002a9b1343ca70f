"""Attention over a window in PyTorch: the weights, and their mixture with the output's distribution.

A state has the keys of the last positions (B, window · KEY), integers in int8, the newest last; and the id that
followed each, plus 1 (B, window): 0 if there was no position, and AWAITED after the newest.
"""

import math

import torch
from torch import Tensor, nn

from model.cells.attention import KEY, KEY_LEVELS, OUTPUTS, SCALE, SENTINEL

AWAITED = -1
RAREST = 2.0**-126  # the least probability


class Window:
    """Queries and keys of a stretch of text.

    query: (B, T, KEY), scaled, so that its product with a key is a score. sentinel: (B, T).
    keys: (B, window + T, KEY), integers; those before the stretch have no gradient. followed: int64 (B, window + T).
    """

    def __init__(self, query: Tensor, sentinel: Tensor, keys: Tensor, followed: Tensor) -> None:
        self.query, self.sentinel, self.keys, self.followed = query, sentinel, keys, followed
        self.length = keys.shape[1] - query.shape[1]

    def state(self) -> list[Tensor]:
        """The state after the stretch."""
        keys, followed = self.keys[:, -self.length :], self.followed[:, -self.length :]
        return [keys.detach().flatten(1).to(torch.int8), followed.float()]


class Attention(nn.Module):
    """Query, key and sentinel, projected from the output layer's input, and the score added for each distance."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.recency = nn.Parameter(torch.full((window - 1,), -math.log(window)))
        self.project = nn.Linear(width, OUTPUTS)
        with torch.no_grad():
            nn.init.xavier_uniform_(self.project.weight)
            self.project.weight[-1] = 0
            self.project.bias.zero_()
            self.project.bias[-1] = SENTINEL

    def read(self, heard: Tensor, ids: Tensor, state: list[Tensor]) -> Window:
        """The window of a stretch. heard: the output layer's input, (T, B, W). ids: (B, T). state: as from
        `Window.state`."""
        query, key, sentinel = self.project(heard).transpose(0, 1).split([KEY, KEY, 1], -1)
        key = KEY_LEVELS * key.float().tanh()
        key = key + (key.round() - key).detach()  # gradient as without rounding (straight-through: Bengio et al. 2013)
        before = state[0].view(len(key), self.window, KEY).to(key.dtype)
        keys, followed = torch.cat([before, key], 1), followed_by(state[1], ids)
        return Window(query.float() * SCALE, sentinel.squeeze(-1).float(), keys, followed)

    def scores(self, window: Window) -> Tensor:
        """The scores of the sentinel and of all keys (B, T, 1 + window + T), -inf for positions that are not
        allowed."""
        count = window.query.shape[1]
        places = torch.arange(window.keys.shape[1], device=window.keys.device)
        distance = self.window + torch.arange(count, device=places.device)[:, None] - places  # (T, window + T)
        inside = (distance >= 1) & (distance < self.window)
        recency = self.recency[(distance - 1).clamp(0, self.window - 2)]
        allowed = inside & (window.followed > 0)[:, None]
        scores = (window.query @ window.keys.transpose(1, 2) + recency).masked_fill(~allowed, -torch.inf)
        return torch.cat([window.sentinel[..., None], scores], -1)

    def forward(self, logits: Tensor, window: Window) -> Tensor:
        """ln p (B, T, V) from logits (B, T, V) and the window."""
        weights = self.scores(window).softmax(-1)
        own = weights[..., :1] * logits.float().softmax(-1)
        pointed = (window.followed - 1).clamp(min=0)[:, None].expand(-1, logits.shape[1], -1)
        return own.scatter_add(2, pointed, weights[..., 1:]).clamp(min=RAREST).log()


def followed_by(before: Tensor, ids: Tensor) -> Tensor:
    """The id after each position, plus 1, for a window and a stretch after it, int64 (B, window + T).

    before: that of the window, as in a state. ids: those of the stretch (B, T).
    """
    before, ids = before.long(), ids + 1
    first = torch.where(before[:, -1:] == AWAITED, ids[:, :1], 0)
    return torch.cat([before[:, :-1], first, ids[:, 1:], torch.full_like(first, AWAITED)], 1)


def initial_state(rows: int, window: int, device: torch.device) -> list[Tensor]:
    """The state before the first character, without positions."""
    keys = torch.zeros(rows, window * KEY, dtype=torch.int8, device=device)
    return [keys, torch.zeros(rows, window, device=device)]
