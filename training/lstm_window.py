"""An LSTM layer over a training window by lstm.c, whose products are of bfloat16 numbers with sums in fp32.

The equations are those of model.cells.torch_cells, and a layer reads as PyTorch's own does under autocast, but for the
rounding. It is there for processors that multiply bfloat16 in hardware (AVX512_BF16), and multiplies in tiles where
they have those, too (AMX). The kernel leaves the gradients of the weights to one product over the whole window each;
PyTorch's adds to them at every character, which is bound by the cache and so no faster with a second thread (LOG.md).
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
    """The functions of lstm.c; None where it was not compiled as it is now, or this processor cannot run it."""
    library = load_library(Path(__file__).parent, "_lstm")
    if library is None or not library.supported_lstm():
        return None
    number, array = c_int64, c_void_p
    kinds: dict[str, list[Any]] = {
        "pack_rows": [array, number, number, array],
        "pack_columns": [array, number, number, array],
        "lstm_read": [number] * 5 + [array] * 9,
        "lstm_go_back": [number] * 3 + [array] * 8,
    }
    if not all(hasattr(library, name) for name in [*kinds, "supported_tiles"]):
        return None
    return {name: typed(getattr(library, name), *kind, result=None) for name, kind in kinds.items()}


@cache
def has_tiles() -> bool:
    """Whether lstm.c multiplies in tiles here: the processor has them, and Linux, which is asked, lets this process."""
    library = load_library(Path(__file__).parent, "_lstm")
    return library is not None and _functions() is not None and bool(library.supported_tiles())


def read_to_learn(
    config: NetworkConfig,
    x: Tensor,
    weights: Sequence[Tensor],
    state: State,
    counts: Sequence[int] | None = None,
) -> tuple[Tensor, State]:
    """As `read_layer`, by the kernel that learns from it fastest: under autocast to bfloat16 that is lstm.c.

    No gradient flows to the state before. counts: as of `lstm_window`, where `rows_may_end`.
    """
    if counts is not None:
        return lstm_window(x, weights, state, counts)
    return lstm_window(x, weights, state) if _suits(config, x) else read_layer(config, x, weights, state)


def rows_may_end(config: NetworkConfig, device: torch.device) -> bool:
    """Whether lstm.c reads rows that end at different places, under autocast to bfloat16."""
    return (
        config.cell == "lstm"
        and config.hidden % BLOCK == 0
        and config.embedding % 2 == 0
        and device.type == "cpu"
        and _functions() is not None
    )


def _suits(config: NetworkConfig, x: Tensor) -> bool:
    return (
        rows_may_end(config, x.device)
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def lstm_window(
    x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], counts: Sequence[int] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """One layer over a whole window.

    x: (T, B, E). weights: W_ih (4H, E), W_hh (4H, H), b_ih and b_hh (4H,) in fp32. state: h and c before (B, H), to
    which no gradient flows. Returns the hidden states (T, B, H) in bfloat16, and h and c after in fp32.
    counts: of rows that end, how many there are at each character (T,), the first of those before. Then x is (N, E) and
    the hidden states are (N, H), of the rows of one character after the other; a row's state after is that at its end.
    N may be more than these are: what x has beyond is not read, and its hidden states are zero.
    """
    ragged = counts is not None
    rows = [x.shape[1]] * x.shape[0] if counts is None else list(counts)
    flat = x if ragged else x.flatten(0, 1)
    hiddens, *after = _LstmWindow.apply(  # type: ignore[no-untyped-call]
        flat.to(torch.bfloat16), *weights, *state, torch.tensor(rows), ragged
    )
    return hiddens if ragged else hiddens.view(*x.shape[:2], -1), after


class _LstmWindow(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        x: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
        h: Tensor,
        c: Tensor,
        counts: Tensor,
        ragged: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        (size, width), hidden, rows = x.shape, w_hh.shape[1], len(h)
        x = x.contiguous()
        hiddens = torch.empty(rows + size, hidden, dtype=torch.bfloat16)
        cells = torch.empty(rows + size, hidden)
        hiddens[:rows], cells[:rows] = h, c
        gates = torch.empty(size, 4 * hidden, dtype=torch.bfloat16)
        sums = torch.empty(min(AT_ONCE, len(counts)) * rows, 4 * hidden)
        packed = [_packed("pack_rows", weight) for weight in (w_ih, w_hh)]
        if (read := int(counts.sum())) < size:
            hiddens[rows + read :] = 0
            gates[read:] = 0
        arrays = counts, x, *packed, b_ih + b_hh, hiddens, cells, gates, sums
        _call("lstm_read", has_tiles(), len(counts), width, hidden, AT_ONCE, *arrays)
        context.set_materialize_grads(False)
        context.save_for_backward(x, w_ih, w_hh, hiddens, cells, counts)
        context.gates, context.ragged = gates, ragged
        last = _last_places(counts, rows) if ragged else slice(size, size + rows)
        return hiddens[rows:], hiddens[last].float(), cells[last].clone()

    @staticmethod
    @once_differentiable
    def backward(context: Any, above: Tensor | None, of_h: Tensor | None, of_c: Tensor | None) -> tuple[Any, ...]:
        x, w_ih, w_hh, hiddens, cells, counts = context.saved_tensors
        size, hidden = len(x), cells.shape[1]
        rows = len(cells) - size
        gates, context.gates = context.gates, None  # their gradients take their place
        above = torch.zeros_like(hiddens[rows:]) if above is None else above.to(torch.bfloat16).contiguous()
        later, of_cell = (
            torch.zeros(rows, hidden) if of_state is None else of_state.float().clone() for of_state in (of_h, of_c)
        )
        bias = torch.zeros(4 * hidden)
        arrays = counts, _packed("pack_columns", w_hh), cells, gates, above, later, of_cell, bias
        _call("lstm_go_back", has_tiles(), len(counts), hidden, *arrays)
        of_x = gates @ w_ih.to(torch.bfloat16) if context.needs_input_grad[0] else None
        before = hiddens[_places_before(counts, rows, size)] if context.ragged else hiddens[:size]
        of_w_ih, of_w_hh = ((gates.t() @ factors).float() for factors in (x, before))
        return of_x, of_w_ih, of_w_hh, bias, bias.clone(), None, None, None, None


def _last_places(counts: Tensor, rows: int) -> Tensor:
    """Where the last state of each row is among all states, the first of which are those before the window."""
    lengths = (counts[None, :] > torch.arange(rows)[:, None]).sum(1)  # characters of each row
    begins = rows + counts.cumsum(0) - counts
    return torch.where(lengths > 0, begins[(lengths - 1).clamp(min=0)], 0) + torch.arange(rows)


def _places_before(counts: Tensor, rows: int, size: int) -> Tensor:
    """Where the state before each character of a row is among all states, (size,); the first beyond the characters."""
    begins = rows + counts.cumsum(0) - counts  # of the states after each character
    before = torch.cat([torch.zeros(1, dtype=torch.int64), begins[:-1]])
    shift = before - (begins - rows)
    places = torch.zeros(size, dtype=torch.int64)
    read = int(counts.sum())
    torch.add(torch.arange(read), shift.repeat_interleave(counts), out=places[:read])
    return places


def _packed(how: str, weight: Tensor) -> Tensor:
    """A weight (n, k) in bfloat16 as the kernel wants it."""
    packed = torch.empty(weight.numel(), dtype=torch.bfloat16)
    _call(how, weight.detach().contiguous(), *weight.shape, packed)
    return packed


def _call(name: str, *arguments: Tensor | int) -> None:
    functions = _functions()
    assert functions is not None
    functions[name](*(one if isinstance(one, int) else one.data_ptr() for one in arguments))
