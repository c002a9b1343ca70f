"""The network's step on a CUDA GPU, for all slots of a running batch at once, as one captured graph of kernels.

A step of a small network is some twenty kernels of a few microseconds each, so launching them one by one would take
most of the time. The graph is launched whole, the states never leave the device, and each step sends one id per slot
there and brings one row of logits per slot back. `model.sampling.sampler` draws on the host, so there is one sampler.

Weights and products are float32. TF32 and bf16 would round to 11 and 8 bits and write texts further from the CPU's,
and in a model of characters the products are too small to take most of the time.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.arithmetic import Array
from model.cells.cuda_attention import CudaAttention
from model.cells.torch_cells import TORCH_CELLS
from model.checkpoint import Checkpoint
from model.decoding.step_weights import Product, StepWeights, columns_of
from model.decoding.stepped_rows import SteppedRows
from model.errors import ParameterError

Linear = tuple[Tensor, Tensor | None]

NO_ID = -1  # what a slot reads that is not in the call
WARM_UP = 3  # runs before a capture: what libraries allocate and choose at first must not be in the graph


class CudaNetwork:
    """A network's weights on a device, and its step as a function of tensors.

    ids: those with a column of logits, (S,). device: "cuda", or "cpu" to test the step where there is no GPU.
    """

    def __init__(self, checkpoint: Checkpoint, ids: NDArray[np.int64], device: torch.device) -> None:
        self.config, self.device, self.columns = checkpoint.config, device, len(ids)
        layout = self.config.state_layout()
        self.floats = layout.floats
        self._state = [[layout[name] for name in self.config.layer_state(at)] for at in range(self.config.layers)]
        weights = StepWeights.of(checkpoint, ids, "fp32")
        self._table, self._nothing = torch.tensor(weights.table, device=device), torch.zeros((), device=device)
        self._layers = [
            (None if layer.input is None else self._linear(layer.input), self._linear(layer.recurrent), layer.joined)
            for layer in weights.layers
        ]
        self._out, self._every = self._linear(weights.out), self._linear(weights.every)
        self._attention = None
        if weights.attention is not None:
            recency = torch.tensor(weights.attention.recency, device=device)
            self._attention = CudaAttention(layout, recency), self._linear(weights.attention.project)
            columns = columns_of(ids, self.config.vocabulary)
            self._columns = torch.tensor(np.where(columns < 0, len(ids), columns), dtype=torch.int64, device=device)
            self._ids = torch.arange(self.config.vocabulary, device=device)

    def _linear(self, product: Product) -> Linear:
        """A product's weight (N, K) and bias (N,)."""
        bias = None if product.bias is None else torch.tensor(product.bias, device=self.device)
        return torch.tensor(product.matrix, device=self.device), bias

    def known(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The same ids. Raises IndexError where the network has no such id: on a GPU that would end the process."""
        if ids.size and not 0 <= ids.min() <= ids.max() < self.config.vocabulary:
            raise IndexError("an id is not one of the network's")
        return ids.astype(np.int64)

    def after(self, ids: Tensor, state: Tensor) -> Tensor:
        """The state (B, floats) after reading ids (B,) in a state (B, floats)."""
        cell, after, below = TORCH_CELLS[self.config.cell], list[Tensor](), state
        for at, (own_input, recurrent, joined) in enumerate(self._layers):
            own = [state[:, part] for part in self._state[at]]
            if at == 0:
                x = self._table[ids]
            elif own_input is None:
                x = self._nothing
            else:
                x = F.linear(below, *own_input)
            h = torch.cat([below, own[0]], dim=1) if joined else own[0]
            own = cell.step(own, F.linear(h, *recurrent), x)
            below = own[0]
            after += own
        if self._attention is not None:
            attention, project = self._attention
            heard = self._heard(torch.cat(after, dim=1))
            after.append(attention.remember(ids, F.linear(heard, *project), state))
        return torch.cat(after, dim=1)

    def logits(self, state: Tensor) -> Tensor:
        """The logits (B, S) of rows in a state (B, floats)."""
        heard = self._heard(state)
        logits = F.linear(heard, *self._out)
        if self._attention is None:
            return logits
        attention, project = self._attention
        return attention.point(F.linear(heard, *project), state, logits, self._columns)

    def every_logits(self, state: Tensor) -> Tensor:
        """The logits of every id (B, V)."""
        heard = self._heard(state)
        logits = F.linear(heard, *self._every)
        if self._attention is None:
            return logits
        attention, project = self._attention
        return attention.point(F.linear(heard, *project), state, logits, self._ids)

    def _heard(self, state: Tensor) -> Tensor:
        """What the output reads: the last hidden state (B, H), or with skip connections all of them (B, L·H)."""
        hidden = [state[:, own[0]] for own in self._state]
        return torch.cat(hidden, dim=1) if self.config.skip else hidden[-1]


class DeviceState:
    """The state (slots, floats) of a running batch on a device, used as a numpy array of that shape is.

    An index gives the slots themselves, no copy; assigning to them copies from other slots or from an array, and
    `copy` brings them to the host.
    """

    def __init__(self, whole: Tensor, slots: Any = slice(None)) -> None:
        self.whole, self.slots = whole, slots

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def shape(self) -> tuple[int, ...]:
        """As a numpy array's."""
        return tuple(self.whole[self.slots].shape)

    def __getitem__(self, slots: Any) -> "DeviceState":
        return DeviceState(self.whole, slots)

    def __setitem__(self, slots: Any, value: Any) -> None:
        if not isinstance(value, DeviceState):
            self.whole[slots] = torch.from_numpy(np.array(value, np.float32)).to(self.whole.device)
        elif value.whole is not self.whole or value.slots is not slots:
            self.whole[slots] = value.whole[value.slots]

    def copy(self) -> Array:
        """An array of its own on the host."""
        array: Array = self.whole[self.slots].cpu().numpy().copy()
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a state on a device cannot be an array without a copy; ask for one.")
        return self.copy() if dtype is None else self.copy().astype(dtype)


class CudaStep:
    """A step of any of a fixed number of slots, as `model.decoding.rows.Step` does it; it owns the states it is given.

    Every step computes all slots with the same kernels. So what a slot holds does not depend on the other slots. Slots
    that are not in the call keep their state.
    """

    def __init__(self, network: CudaNetwork, slots: int) -> None:
        device = network.device
        self._network = network
        self._ids = torch.full((slots,), NO_ID, dtype=torch.int64, device=device)
        self._states = torch.zeros(slots, network.floats, device=device)
        self._logits = torch.zeros(slots, network.columns, device=device)
        self._host = torch.zeros(slots, network.columns, pin_memory=device.type == "cuda")
        self._run_advance, self._run_logits = self._captured(self._advance), self._captured(self._compute_logits)
        self.state = DeviceState(self._states)

    def advance(self, ids: NDArray[np.integer[Any]], state: Any) -> None:
        """Read one id (B,) per row into the slots that `state` (B, floats) is a view of."""
        every = np.full(len(self._ids), NO_ID, np.int64)
        every[state.slots] = self._network.known(ids)
        self._ids.copy_(torch.from_numpy(every))
        self._run_advance()

    def logits(self, state: Any) -> Array:
        """The logits (B, S) of the slots that `state` is a view of."""
        self._run_logits()
        self._host.copy_(self._logits, non_blocking=True)
        if self._logits.is_cuda:
            torch.cuda.current_stream().synchronize()
        chosen: Array = self._host.numpy()[state.slots]
        return chosen

    def every_logits(self, state: Any) -> Array:
        """The logits of every id (B, V); computed for all slots too, for the same reason."""
        logits: Array = self._network.every_logits(self._states).cpu().numpy()[state.slots]
        return logits

    def _advance(self) -> None:
        after = self._network.after(self._ids.clamp(min=0), self._states)
        self._states.copy_(torch.where(self._ids[:, None] == NO_ID, self._states, after))

    def _compute_logits(self) -> None:
        self._logits.copy_(self._network.logits(self._states))

    def _captured(self, run: Callable[[], None]) -> Callable[[], None]:
        """`run` as one graph of kernels on a GPU, `run` itself elsewhere. The runs that capture it move no slot."""
        if not self._ids.is_cuda or not len(self._ids):
            return run
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may be at work meanwhile
            run()
        return graph.replay


class CudaRows(SteppedRows):
    """Rows whose states live on the GPU; see `model.decoding.rows.Rows`.

    ids: the id of each column of logits (S,). slots: how many slots; the graph is captured for this number.
    """

    def __init__(self, network: CudaNetwork, ids: NDArray[np.int64], slots: int) -> None:
        step = CudaStep(network, slots)
        super().__init__(step, ids, cast(Any, step.state))


class CudaDecoder:
    """A checkpoint ready to step on a GPU, used as `model.decoding.decoder.Decoder` is.

    A row is the same to the bit beside any other rows, on the same GPU and with the same number of slots. Another
    GPU or another number may differ in the last bits.
    Raises ParameterError where PyTorch finds no GPU.
    """

    where = "fp32 on a CUDA GPU"
    computes_here = False

    def __init__(self, checkpoint: Checkpoint, device: str = "cuda") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise ParameterError("device", "PyTorch finds no CUDA GPU here; choose the CPU, or install its driver.")
        torch.set_float32_matmul_precision("highest")  # no TF32: the default, unless other code changed it
        self.config = checkpoint.config
        self.ids = checkpoint.seen()
        """The ids that text is drawn from, (S,): those seen in training."""
        self._network = CudaNetwork(checkpoint, self.ids, torch.device(device))

    def rows(self, slots: int) -> CudaRows:
        """Slots for the rows of a running batch, all in the initial state; for one thread at a time."""
        return CudaRows(self._network, self.ids, slots)
