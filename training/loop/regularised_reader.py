"""Reads a training window through the network with every regulariser applied."""

import torch
from torch import Tensor

from model.network import Network, State, layer_state, read_layer
from training.planning.regularisation import Regularisation


def drop_weights(weights: Tensor, share: float) -> Tensor:
    """Weights with a share of them zero by chance, rounded to a 256th, and the others scaled up for it.

    A byte of chance each, of which PyTorch draws eight at once: dropout's own draws, one by one on a CPU, take six
    times as long (LOG.md).
    """
    dropped = round(share * 256)
    drawn = torch.empty((weights.numel() + 7) // 8, dtype=torch.int64, device=weights.device)
    chances = drawn.random_(-(2**63), None).view(torch.uint8)[: weights.numel()].view(weights.shape)
    return weights * (chances >= dropped).to(weights.dtype).mul_(256 / (256 - dropped))


class RegularisedReader:
    """Reads windows as `Network.forward` does, with everything left out that the regularisation asks for.

    Its chances come from PyTorch's global generator of the network's device.
    """

    def __init__(self, network: Network, regularisation: Regularisation) -> None:
        self.network, self.regularisation = network, regularisation

    def __call__(self, ids: Tensor, state: State | None) -> tuple[Tensor, State]:
        """ids: int64 (B, T). Returns logits (T, B, V), in the order they are computed, and the state after."""
        network, chosen = self.network, self.regularisation
        config = network.config
        state = network.initial_state(len(ids)) if state is None else self._dropped(state)
        x = self._mask(network.embedding(ids.t()), chosen.input_dropout)
        read, after = [], State()
        for number in range(config.layers):
            x = self._mask(x, chosen.layer_dropout) if number else x
            x, last = read_layer(config, x, self._weights(number), layer_state(config, state, number))
            read.append(x)
            after += last
        logits: Tensor = network.out(self._mask(torch.cat(read, -1) if config.skip else x, chosen.output_dropout))
        return logits, after

    def _mask(self, x: Tensor, share: float) -> Tensor:
        """x (T, B, W) with a share of it zero: of each row's W numbers for the whole window, or of each character's."""
        if not share:
            return x
        if not self.regularisation.locked:
            return torch.nn.functional.dropout(x, share)
        return x * x.new_empty(1, *x.shape[1:]).bernoulli_(1 - share).div_(1 - share)

    def _weights(self, number: int) -> list[Tensor]:
        w_ih, w_hh, b_ih, b_hh = self.network.layer_weights(number)
        if self.regularisation.weight_drop:
            w_hh = drop_weights(w_hh, self.regularisation.weight_drop)
        return [w_ih, w_hh, b_ih, b_hh]

    def _dropped(self, state: State) -> State:
        """The state with a share of its rows zero."""
        share = self.regularisation.drop_state
        if not share:
            return state
        kept = torch.rand(len(state[0]), 1, device=state[0].device) >= share
        return [part * kept for part in state]
