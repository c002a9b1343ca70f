"""The network as one fast step on the CPU: ids (B,) and state in, logits (B, S) and the next state out."""

import threading

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.checkpoint import Checkpoint
from model.decoding.kernel_library import processors
from model.decoding.kernel_rows import CompiledStep, KernelRows
from model.decoding.kernel_weights import KernelWeights
from model.decoding.numpy_step import NumpyStep
from model.decoding.rows import Rows
from model.decoding.step_weights import Quantization, StepWeights
from model.decoding.stepped_rows import SteppedRows
from model.errors import ParameterError

State = Array
"""What rows carry between characters: (B, P, H), the P parts in the order of `NetworkConfig.state_names`."""


NUMPY = "numpy"


class Decoder:
    """A checkpoint ready to step. It knows no text, no requests.

    quantization: "int8" rounds weights and hidden state to 8 bits (exact integer sums), "fp32" rounds nothing.
    every_id: a column of logits for every id, also those never seen in training; for scoring, not for generating.
    processor: whose compiled kernel to step with, one of `kernel_library.processors()`; None takes the best there is,
        or numpy where none was compiled; "numpy" takes that.

    A row's logits and state depend on that row alone, to the bit, whatever rows stand beside it. In int8 they are
    the same on every processor, with the compiled kernel or without.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        quantization: Quantization = "int8",
        every_id: bool = False,
        processor: str | None = None,
    ) -> None:
        if quantization not in ("int8", "fp32"):
            raise ParameterError("quantization", f"quantization is {quantization!r}; choose int8 or fp32.")
        self.config = checkpoint.config
        self.quantization = quantization
        self.ids = np.arange(self.config.vocabulary) if every_id else checkpoint.seen()
        """The id of each column of the logits, (S,)."""
        self.processor = processor or next(iter(processors()), NUMPY)
        """Whose kernel steps: "avx512", "avx2", "neon", or "numpy" for none."""
        weights = StepWeights.of(checkpoint, self.ids, quantization)
        if self.processor == NUMPY:
            self._numpy_step, self._kernel_weights = NumpyStep(self.config.cell, weights), None
        else:
            self._kernel_weights = KernelWeights(self.config, weights, self.ids, self.processor)
            self._local = threading.local()  # a thread's own scratch: `step` may be called from several

    @property
    def where(self) -> str:
        """The quantization and what it runs on, in words."""
        return f"{self.quantization} on {self.processor}"

    def initial_state(self, rows: int) -> State:
        """The state before the first character: zeros (rows, P, H)."""
        return np.zeros((rows, len(self.config.state_names()), self.config.hidden), np.float32)

    def step(self, ids: NDArray[np.integer], state: State) -> tuple[Array, State]:
        """Read one character per row.

        ids: (B,); state: (B, P, H), unchanged by the call.
        Returns logits (B, S) over the columns `self.ids`, and the next state, in arrays of its own.
        """
        after = np.array(state, np.float32, order="C")
        ids = np.ascontiguousarray(ids, np.int32)
        if self._kernel_weights is not None:
            if not hasattr(self._local, "step"):
                self._local.step = CompiledStep(self._kernel_weights)
            return self._local.step.step(ids, after), after
        self._numpy_step.advance(ids, after)
        return self._numpy_step.logits(after), after

    def rows(self, slots: int) -> Rows:
        """Slots for the rows of a running batch, all in the initial state; for one thread at a time."""
        state = self.initial_state(slots)
        if self._kernel_weights is not None:
            return KernelRows(self._kernel_weights, state)
        return SteppedRows(self._numpy_step, self.ids, state)
