"""The weights of a network before its first step: from the frequencies of the ids, or from a checkpoint."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.config import NetworkConfig
from model.errors import ParameterError
from model.network import Network
from model.text.frame import START
from model.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class InitialWeights:
    """The first weights of a run.

    counts: how often each id occurs in the train part, (V,).
    base: the checkpoint to continue from, whose vocabulary is the first ids of the run's; None starts without one.
    items: whether texts are items, so that the id that begins an item is read.
    """

    counts: NDArray[np.int64]
    base: Checkpoint | None = None
    items: bool = False

    def put_into(self, network: Network) -> NDArray[np.int64]:
        """Set a network's first weights; returns the ids (k,) that occur neither in this corpus nor in the base's."""
        if self.base is None:
            start_from_frequencies(network, self.counts)
            return np.flatnonzero(self.counts == 0)
        grow(network, self.base, self.counts)
        if self.items:
            begin_items(network, self.base)
        new = np.setdiff1d(np.arange(len(self.counts)), np.arange(self.base.config.vocabulary))
        return np.flatnonzero((self.counts == 0) & np.isin(np.arange(len(self.counts)), [*self.base.unseen, *new]))


def frequencies(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The log-probability of each id, (V,), with half an occurrence added to each."""
    logs: NDArray[np.float64] = np.log((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))
    return logs


def start_from_frequencies(network: Network, counts: NDArray[np.int64]) -> None:
    """Make an untrained network predict each id with its frequency, (V,), and ids that never occur hardly at all.

    Learning the frequencies first is expensive: 256 byte ids that never occur cost 0.1 nats in a pass over
    Shakespeare. An unseen id also has no effect when it is read: its embedding is zero, and no gradient reaches it.
    """
    unseen = torch.from_numpy(counts == 0).to(network.out.weight.device)
    with torch.no_grad():
        network.out.bias.copy_(torch.from_numpy(frequencies(counts)))
        network.out.weight[unseen] = 0
        network.embedding.weight[unseen] = 0


def begin_items(network: Network, base: Checkpoint) -> None:
    """Give the id that begins an item its embedding in the base, or that of a line break if the base has no items."""
    row = START if base.tokenizer.frame.items else base.tokenizer.start_id
    with torch.no_grad():
        network.embedding.weight[START] = torch.from_numpy(np.array(base.tensors["embedding.weight"][row]))


def fits(base: Checkpoint, tokenizer: Tokenizer) -> NetworkConfig:
    """The base's network, enlarged for new characters.

    Raises ParameterError if the vocabulary does not begin with the base's.
    """
    if not tokenizer.characters.startswith(base.tokenizer.characters):
        raise ParameterError("from", "the vocabulary does not begin with that of the checkpoint to train on.")
    return NetworkConfig.from_json({**base.config.to_json(), "vocabulary": tokenizer.size})


def grow(network: Network, base: Checkpoint, counts: NDArray[np.int64]) -> None:
    """Copy a base's weights into a network of its shape, whose vocabulary may have additional ids at the end.

    An id that the base never saw, in its vocabulary or not, has no effect when it is read, and is predicted with its
    frequency, (V,). All other ids keep their weights.
    """
    weights = {name: torch.from_numpy(np.asarray(tensor)) for name, tensor in base.tensors.items()}
    known = base.seen()
    strange = np.setdiff1d(np.arange(len(counts)), known)
    expected = frequencies(counts)
    # The output's biases are free up to a constant; the ids that both texts have determine it.
    weight = counts[known] / max(1, counts[known].sum())
    offset = float((weight * (base.tensors["out.bias"][known] - expected[known])).sum())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() and len(parameter) == len(weights[name]):
                parameter.copy_(weights[name])
        for name in ("embedding.weight", "out.weight", "out.bias"):
            parameter, old = network.get_parameter(name), weights[name]
            parameter[: len(old)] = old.to(parameter.device)
            parameter[torch.from_numpy(strange).to(parameter.device)] = 0
        network.out.bias[strange] = torch.from_numpy(expected[strange] + offset).float().to(network.out.bias.device)
