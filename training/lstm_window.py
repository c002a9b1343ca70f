"""An LSTM layer over a training window by lstm.c, whose products are of bfloat16 numbers with sums in fp32.

The equations are those of model.cells.torch_cells, and a layer reads as PyTorch's own does under autocast, but for the
rounding. It is there for processors that multiply bfloat16 in hardware (AVX512_BF16). The kernel leaves the gradients
of the weights to one product over the whole window each; PyTorch's adds to them at every character, which is bound by
the cache and so no faster with a second thread (LOG.md).
"""

from collections.abc import Sequence
from ctypes import c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.config import NetworkConfig
from model.decoding.kernel_library import load_library, typed
from model.network import State, read_layer

BLOCK = 16  # columns of a block of packed weights
AT_ONCE = 8  # characters whose products with the input are done together: their sums fit the second cache


@cache
def _functions() -> dict[str, Any] | None:
    """The functions of lstm.c; None where it was not compiled, or this processor cannot run it."""
    library = load_library(Path(__file__).parent, "_lstm")
    if library is None or not library.supported_lstm():
        return None
    number, array = c_int64, c_void_p
    kinds: dict[str, list[Any]] = {
        "pack_rows": [array, number, number, array],
        "pack_columns": [array, number, number, array],
        "lstm_forward": [number] * 5 + [array] * 8,
        "lstm_backward": [number] * 3 + [array] * 7,
    }
    return {name: typed(getattr(library, name), *kind, result=None) for name, kind in kinds.items()}


def read_to_learn(config: NetworkConfig, x: Tensor, weights: Sequence[Tensor], state: State) -> tuple[Tensor, State]:
    """As `read_layer`, by the kernel that learns from it fastest: under autocast to bfloat16 that is lstm.c.

    No gradient flows to the state before.
    """
    return lstm_window(x, weights, state) if _suits(config, x) else read_layer(config, x, weights, state)


def _suits(config: NetworkConfig, x: Tensor) -> bool:
    return (
        config.cell == "lstm"
        and config.hidden % BLOCK == 0
        and config.embedding % 2 == 0
        and x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and _functions() is not None
    )


def lstm_window(x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """One layer over a whole window.

    x: (T, B, E). weights: W_ih (4H, E), W_hh (4H, H), b_ih and b_hh (4H,) in fp32. state: h and c before (B, H), to
    which no gradient flows. Returns the hidden states (T, B, H) in bfloat16, and h and c after in fp32.
    """
    hiddens, *after = _LstmWindow.apply(x.to(torch.bfloat16), *weights, *state)  # type: ignore[no-untyped-call]
    return hiddens, after


class _LstmWindow(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        (length, rows, width), hidden = x.shape, w_hh.shape[1]
        x = x.contiguous()
        hiddens = torch.empty(length + 1, rows, hidden, dtype=torch.bfloat16)
        cells = torch.empty(length + 1, rows, hidden)
        hiddens[0], cells[0] = h, c
        gates = torch.empty(length, rows, 4 * hidden, dtype=torch.bfloat16)
        sums = torch.empty(min(AT_ONCE, length), rows, 4 * hidden)
        packed = [_packed("pack_rows", weight) for weight in (w_ih, w_hh)]
        arrays = x, *packed, b_ih + b_hh, hiddens, cells, gates, sums
        _call("lstm_forward", length, rows, width, hidden, AT_ONCE, *arrays)
        context.set_materialize_grads(False)
        context.save_for_backward(x, w_ih, w_hh, hiddens, cells)
        context.gates = gates
        return hiddens[1:], hiddens[-1].float(), cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor | None, of_h: Tensor | None, of_c: Tensor | None) -> tuple[Any, ...]:
        x, w_ih, w_hh, hiddens, cells = context.saved_tensors
        length, rows, hidden = cells.shape[0] - 1, cells.shape[1], cells.shape[2]
        gates, context.gates = context.gates, None  # their gradients take their place
        above = torch.zeros_like(hiddens[1:]) if above is None else above.to(torch.bfloat16).contiguous()
        later, of_cell = (
            torch.zeros(rows, hidden) if of_state is None else of_state.float().clone() for of_state in (of_h, of_c)
        )
        bias = torch.zeros(4 * hidden)
        arrays = _packed("pack_columns", w_hh), cells, gates, above, later, of_cell, bias
        _call("lstm_backward", length, rows, hidden, *arrays)
        of_gates = gates.view(length * rows, 4 * hidden)
        of_x = (of_gates @ w_ih.to(torch.bfloat16)).view_as(x) if context.needs_input_grad[0] else None
        of_w_ih, of_w_hh = (
            (of_gates.t() @ factors.reshape(length * rows, -1)).float() for factors in (x, hiddens[:-1])
        )
        return of_x, of_w_ih, of_w_hh, bias, bias.clone(), None, None


def _packed(how: str, weight: Tensor) -> Tensor:
    """A weight (n, k) in bfloat16 as the kernel wants it."""
    packed = torch.empty(weight.numel(), dtype=torch.bfloat16)
    _call(how, weight.detach().contiguous(), *weight.shape, packed)
    return packed


def _call(name: str, *arguments: Tensor | int) -> None:
    functions = _functions()
    assert functions is not None
    functions[name](*(one if isinstance(one, int) else one.data_ptr() for one in arguments))
