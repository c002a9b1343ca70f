"""The network's forward pass over a training window, with the masks of dropout."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.network import Network, State, attention_state, layer_state
from training.loop.masks import Masks
from training.lstm_window import read_to_learn
from training.pointer_loss import pointer_loss


class TaughtRows(NamedTuple):
    """The teachers' distribution for each target of some rows, as tensors.

    ids: int64 (B, T, K).
    chances: (B, T, K).
    share: of the loss that is theirs.
    """

    ids: Tensor
    chances: Tensor
    share: float

    def rows(self, rows: slice) -> "TaughtRows":
        """The same for some of the rows."""
        return self._replace(ids=self.ids[rows], chances=self.chances[rows])


def read_window(network: Network, ids: Tensor, state: State | None, masks: Masks) -> tuple[Tensor, State]:
    """Like `Network.forward`, but with masks.

    ids: int64 (B, T). Returns logits (T, B, V), in the order of their computation, and the state after.
    """
    state = _state(network, ids, state, masks)
    heard, after = _heard(network, ids, state, masks)
    logits: Tensor = network.out(heard)
    if network.attention is None:
        return logits, after
    window = network.attention.read(heard, ids, attention_state(network.config, state))
    return network.attention(logits.transpose(0, 1), window).transpose(0, 1), after + window.state()


def window_loss(
    network: Network,
    ids: Tensor,
    targets: Tensor,
    state: State | None,
    masks: Masks,
    share: float = 1.0,
    taught: TaughtRows | None = None,
) -> tuple[Tensor, State]:
    """The mean nats of targets (B, T) after ids (B, T), times a share, and the state after.

    A target of -100 does not count; if none counts the share is 0. With teachers all count.
    """
    if taught is not None:
        logits, after = read_window(network, ids, state, masks)
        with torch.autocast(logits.device.type, enabled=False):
            return taught_nats(logits, targets, taught) * share, after
    state = _state(network, ids, state, masks)
    heard, after = _heard(network, ids, state, masks)
    logits = network.out(heard)
    if network.attention is None:
        with torch.autocast(logits.device.type, enabled=False):
            # Flattened in the order of their computation, (T, B, V): the other order would copy all logits.
            return mean_nats(logits.flatten(0, 1), targets.t().flatten(), share), after
    before = attention_state(network.config, state)
    nats, pointing = pointer_loss(network.attention, heard, logits, ids, targets, before)
    return nats * (share / (targets >= 0).sum().clamp(min=1)), after + pointing


def mean_nats(logits: Tensor, targets: Tensor, share: float) -> Tensor:
    """The mean nats of targets (N,) that count, times a share, from logits (N, V); zero if none counts."""
    if share == 0:  # rows that are only read: the mean over no targets is not a number
        return logits.float().sum() * 0.0
    loss = F.cross_entropy(logits.float(), targets)
    return loss if share == 1 else loss * share


def taught_nats(logits: Tensor, targets: Tensor, taught: TaughtRows) -> Tensor:
    """The mean nats of targets (B, T) from logits (T, B, V); the gradient includes the teachers' share.

    The gradient is that of (1 - share) × nats of the targets + share × nats of the teachers' distribution (Hinton et
    al. 2015, section 2, at temperature 1). The value excludes the teachers, so that it compares with that of other
    runs.
    """
    log_p = F.log_softmax(logits.float(), -1)
    nats = F.nll_loss(log_p.flatten(0, 1), targets.t().flatten())
    ids, chances = taught.ids.transpose(0, 1), taught.chances.transpose(0, 1).float()
    expected = -(log_p.gather(-1, ids) * chances).sum(-1).mean()
    return nats.detach() + (1 - taught.share) * (nats - nats.detach()) + taught.share * (expected - expected.detach())


def _state(network: Network, ids: Tensor, state: State | None, masks: Masks) -> State:
    state = network.initial_state(len(ids)) if state is None else state
    return state if masks.state is None else [part * masks.state for part in state]


def _heard(network: Network, ids: Tensor, state: State, masks: Masks) -> tuple[Tensor, State]:
    """The input of the output layer (T, B, W), and the layers' state after."""
    config = network.config
    x = masks.input(network.embedding(ids.t()))
    read, after = [], State()
    for number in range(config.layers):
        x = masks.between[number - 1](x) if number else x
        weights, before = _weights(network, number, masks), layer_state(config, state, number)
        x, last = read_to_learn(config, x, weights, before)
        read.append(x)
        after += last
    return masks.output(torch.cat(read, -1) if config.skip else x), after


def read_ended_rows(
    network: Network, ids: Tensor, state: State | None, masks: Masks, rows: Tensor, counts: Sequence[int]
) -> tuple[Tensor, State]:
    """The same for rows that end at different places, without padding, if `rows_may_end`.

    ids: int64 (N,), all rows' ids of the first character, then of the next; rows: (N,) the row of each; counts: the
    number of rows at each character (T,). Masks are locked, or there is none. Returns logits (N, V), and the state
    after.
    """
    config = network.config
    state = network.initial_state(int(counts[0])) if state is None else state
    state = state if masks.state is None else [part * masks.state for part in state]
    x = masks.input.of_rows(network.embedding(ids), rows)
    read, after = [], State()
    for number in range(config.layers):
        x = masks.between[number - 1].of_rows(x, rows) if number else x
        weights, before = _weights(network, number, masks), layer_state(config, state, number)
        x, last = read_to_learn(config, x, weights, before, counts)
        read.append(x)
        after += last
    logits: Tensor = network.out(masks.output.of_rows(torch.cat(read, -1) if config.skip else x, rows))
    return logits, after


def _weights(network: Network, number: int, masks: Masks) -> list[Tensor]:
    w_ih, w_hh, b_ih, b_hh = network.layer_weights(number)
    return [w_ih, w_hh * masks.weights[number] if masks.weights else w_hh, b_ih, b_hh]
