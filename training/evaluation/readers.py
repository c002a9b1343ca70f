"""Reader, the function that gives the loss of a window of ids; and the one that computes it as the server does."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.decoding.rows import AnyDecoder

Reader = Callable[[NDArray[np.int64], NDArray[np.int64], Any], tuple[float, Any]]
"""inputs (B, T), targets (B, T), state or None -> summed nats of the targets, next state (list of arrays (B, …)).

A target of -100 does not count.
"""


def decoder_reader(decoder: AnyDecoder) -> Reader:
    """Read with a decoder's rows, as text is served, without torch."""

    def read(inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Any) -> tuple[float, Any]:
        rows, slots = decoder.rows(len(inputs)), range(len(inputs))
        if state is not None:
            rows.state[:] = state[0]
        counted = targets >= 0
        scored = rows.score(slots, inputs.astype(np.int32), np.where(counted, targets, 0).astype(np.int32))
        return -float(scored.logprobs[counted].sum(dtype=np.float64)), [rows.state.copy()]

    return read
