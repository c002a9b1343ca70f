"""Steps of the bundled model: the CPU decoder against the loop every tutorial shows, with the same weights."""

import numpy as np
import torch
from torch import nn

from model.checkpoint import BUNDLED, load
from model.decoder import Arithmetic, Decoder
from model.network import Network, from_tensors
from model.sampling import RowSampling, Sampler, SamplingParameters
from tests.benchmarks.figures import Figure, seconds_per_call


def tutorial_step(network: Network, rows: int) -> float:
    """Seconds of one step as tutorials write it: nn.LSTM on a sequence of one, softmax, multinomial."""
    config = network.config
    lstm = nn.LSTM(config.embedding, config.hidden, config.layers)
    for layer, ours in enumerate(network.layers):
        for name, value in ours.named_parameters():
            getattr(lstm, name.replace("l0", f"l{layer}")).data.copy_(value.data)
    ids = torch.full((rows,), 300)
    zeros = torch.zeros(config.layers, rows, config.hidden)
    state = (zeros, zeros)

    def step() -> None:
        nonlocal ids, state
        output, state = lstm(network.embedding(ids)[None], state)
        ids = torch.multinomial(torch.softmax(network.out(output[0]), dim=1), 1)[:, 0]

    with torch.no_grad():
        return seconds_per_call(step, max(5, 200 // rows))


def our_step(decoder: Decoder, rows: int, sampled: bool) -> float:
    """Seconds of one step of the decoder, with or without drawing the next character."""
    prompt = np.zeros(0, np.int64)
    sampler = Sampler([RowSampling(SamplingParameters(seed=row), decoder.ids, prompt) for row in range(rows)])
    ids = np.full(rows, decoder.ids[-1])
    state = decoder.initial_state(rows)
    position = 0

    def step() -> None:
        nonlocal ids, state, position
        logits, state = decoder.step(ids, state)
        if sampled:
            ids = decoder.ids[sampler.sample(logits, np.full(rows, position))]
        position += 1

    return seconds_per_call(step, max(20, 1000 // rows))


def measure() -> list[Figure]:
    """One thread for everyone; the pairs stand side by side in time."""
    checkpoint = load(BUNDLED)
    network = from_tensors(checkpoint.config, checkpoint.tensors)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures = []
    arithmetics: tuple[Arithmetic, ...] = ("fp32", "int8")
    decoders = {arithmetic: Decoder(checkpoint, arithmetic) for arithmetic in arithmetics}
    for rows in (1, 32):
        tutorial = tutorial_step(network, rows)
        figures.append(Figure(f"tutorial loop, {rows} rows", rows / tutorial, "characters/s"))
        for arithmetic, decoder in decoders.items():
            ours = our_step(decoder, rows, sampled=True)
            figures += [
                Figure(f"{arithmetic} decoder and sampler, {rows} rows", rows / ours, "characters/s"),
                Figure(f"{arithmetic} decoder and sampler, {rows} rows, against the tutorial", tutorial / ours, "×"),
            ]
    torch.set_num_threads(threads)
    return figures
