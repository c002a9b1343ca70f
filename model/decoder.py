"""The network as one fast step on the CPU: ids (B,) and state in, logits (B, S) and the next state out."""

from functools import cache
from typing import Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.errors import ParameterError
from model.step_graph import product_graph, step_graph

State = list[NDArray[np.float32]]
"""What rows carry between characters: (B, H) each, in the order of `NetworkConfig.state_names`."""

Arithmetic = Literal["int8", "fp32"]


class Decoder:
    """A checkpoint on ONNX Runtime. It only steps: it knows no text, no sampling, no requests.

    arithmetic: "int8" rounds weights and hidden state to 8 bits (exact integer sums), "fp32" rounds nothing.
    threads: cores one step may use.
    every_id: a column of logits for every id, also those never seen in training; for scoring, not for generating.

    A row's logits and state depend on that row alone, to the bit, whatever rows stand beside it.
    """

    def __init__(
        self, checkpoint: Checkpoint, arithmetic: Arithmetic = "int8", threads: int = 1, every_id: bool = False
    ) -> None:
        if arithmetic not in ("int8", "fp32"):
            raise ParameterError("arithmetic", f"arithmetic is {arithmetic!r}; choose int8 or fp32.")
        self.config = checkpoint.config
        self.arithmetic = arithmetic
        self.ids = np.arange(self.config.vocabulary) if every_id else checkpoint.seen()
        """The id of each column of the logits, (S,)."""
        int8 = arithmetic == "int8"
        unsigned = int8 and not signed_products_are_exact()
        graph = step_graph(self.config, checkpoint.tensors, self.ids, int8, unsigned)
        self._session = _session(graph.SerializeToString(), threads)
        self._names = self.config.state_names()
        self._outputs = ["logits", *(f"new_{name}" for name in self._names)]

    def initial_state(self, rows: int) -> State:
        """The state before the first character: zeros (rows, H)."""
        return [np.zeros((rows, self.config.hidden), np.float32) for _ in self._names]

    def step(self, ids: NDArray[np.int64], state: State) -> tuple[NDArray[np.float32], State]:
        """Read one character per row.

        ids: int64 (B,); state: (B, H) each, unchanged by the call.
        Returns logits (B, S) over the columns `self.ids`, and the next state, in arrays of its own.
        """
        feed = dict(zip(self._names, state, strict=True))
        logits, *after = self._session.run(self._outputs, {"ids": ids, **feed})
        return logits, after


def _session(graph: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


@cache
def signed_products_are_exact() -> bool:
    """Whether this processor adds unsigned × signed products exactly at their largest.

    Kernels for x86 without VNNI may add pairs of such products in 16 bits and saturate; unsigned weights avoid them.
    """
    weights = np.full((64, 64), 127, np.int8)
    session = _session(product_graph(weights).SerializeToString(), 1)
    for rows in (1, 8):  # kernels for one row and for many differ
        (sums,) = session.run(None, {"h": np.full((rows, 64), 255, np.uint8)})
        if not (sums == 64 * 127 * (255 - 128)).all():
            return False
    return True
