"""The network's forward pass over a training window, with the masks of dropout."""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.network import Network, State, layer_state
from training.loop.masks import Masks
from training.lstm_window import read_to_learn


def read_window(network: Network, ids: Tensor, state: State | None, masks: Masks) -> tuple[Tensor, State]:
    """Read as `Network.forward` does, but for the masks.

    ids: int64 (B, T). Returns logits (T, B, V), in the order they are computed, and the state after.
    """
    config = network.config
    state = network.initial_state(len(ids)) if state is None else state
    state = state if masks.state is None else [part * masks.state for part in state]
    x = masks.input(network.embedding(ids.t()))
    read, after = [], State()
    for number in range(config.layers):
        x = masks.between[number - 1](x) if number else x
        weights, before = _weights(network, number, masks), layer_state(config, state, number)
        x, last = read_to_learn(config, x, weights, before)
        read.append(x)
        after += last
    logits: Tensor = network.out(masks.output(torch.cat(read, -1) if config.skip else x))
    return logits, after


def read_ended_rows(
    network: Network, ids: Tensor, state: State | None, masks: Masks, rows: Tensor, counts: Sequence[int]
) -> tuple[Tensor, State]:
    """The same for rows that end at different places, without padding, where `rows_may_end`.

    ids: int64 (N,) of the rows of one character after the other; rows: (N,) the row of each; counts: how many rows
    there are at each character (T,). Masks are locked, or there is none. Returns logits (N, V), and the state after.
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
