"""The loop every tutorial shows, with the bundled model's weights: nn.LSTM step by step, softmax, multinomial."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from model.checkpoint import Checkpoint
from model.network import from_tensors


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch on one thread, as everyone here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def tutorial_step(checkpoint: Checkpoint, rows: int) -> Callable[[], None]:
    """One step as tutorials write it: nn.LSTM on a sequence of one, softmax, multinomial."""
    network, config = from_tensors(checkpoint.config, checkpoint.tensors), checkpoint.config
    lstm = nn.LSTM(config.embedding, config.hidden, config.layers)
    for layer, ours in enumerate(network.layers):
        for name, value in ours.named_parameters():
            getattr(lstm, name.replace("l0", f"l{layer}")).data.copy_(value.data)
    ids = torch.full((rows,), 300)
    zeros = torch.zeros(config.layers, rows, config.hidden)
    state = (zeros, zeros)

    @torch.no_grad()
    def step() -> None:
        nonlocal ids, state
        output, state = lstm(network.embedding(ids)[None], state)
        heard = torch.cat(tuple(state[0]), dim=1) if config.skip else output[0]
        ids = torch.multinomial(torch.softmax(network.out(heard), dim=1), 1)[:, 0]

    return step
