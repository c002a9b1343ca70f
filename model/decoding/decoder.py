"""A checkpoint ready to step on the CPU: its weights in 8 bits or in floats, and the rows that step with them."""

import numpy as np

from model.checkpoint import Checkpoint
from model.decoding.kernel_library import processors
from model.decoding.kernel_rows import KernelRows
from model.decoding.kernel_weights import KernelWeights
from model.decoding.numpy_step import NumpyStep
from model.decoding.rows import Rows
from model.decoding.step_weights import Quantization, StepWeights
from model.decoding.stepped_rows import SteppedRows
from model.errors import ParameterError

NUMPY = "numpy"


class Decoder:
    """A checkpoint ready to step. It knows nothing of texts or requests.

    quantization: "int8" rounds weights and hidden state to 8 bits (exact integer sums), "fp32" rounds nothing.
    processor: which compiled kernel steps, one of `kernel_library.processors()`, or "numpy" for none. None chooses the
        best kernel, or numpy where none was compiled.

    A row's logits and state depend on that row alone, to the bit. In int8 they are the same on every processor, with
    the compiled kernel or without.
    """

    computes_here = True
    """Whether its calls take the time of the thread that calls."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        quantization: Quantization = "int8",
        processor: str | None = None,
    ) -> None:
        if quantization not in ("int8", "fp32"):
            raise ParameterError("quantization", f"quantization is {quantization!r}; choose int8 or fp32.")
        self.config = checkpoint.config
        self.quantization = quantization
        self.ids = checkpoint.seen()
        """The ids that text is drawn from, (S,): those seen in training."""
        self.processor = processor or next(iter(processors()), NUMPY)
        """Which kernel steps: "amx", "avx512", "avx2", "neon", or "numpy" for none."""
        weights = StepWeights.of(checkpoint, self.ids, quantization)
        if self.processor == NUMPY:
            self._numpy_step, self._kernel_weights = NumpyStep(self.config, weights, self.ids), None
        else:
            self._kernel_weights = KernelWeights(self.config, weights, self.ids, self.processor)

    @property
    def where(self) -> str:
        """The quantization and what it runs on, in words."""
        return f"{self.quantization} on {self.processor}"

    @property
    def nbytes(self) -> int:
        """Memory of its weights."""
        step = self._numpy_step if self._kernel_weights is None else self._kernel_weights
        return step.nbytes

    def rows(self, slots: int) -> Rows:
        """Slots for the rows of a running batch, all in the initial state; for one thread at a time."""
        state = np.zeros((slots, self.config.state_layout().floats), np.float32)
        if self._kernel_weights is not None:
            return KernelRows(self._kernel_weights, state)
        return SteppedRows(self._numpy_step, self.ids, state)
