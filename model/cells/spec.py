"""What a recurrent cell has: its gates, what it carries between characters, and the rate it learns at."""

from dataclasses import dataclass
from typing import Literal

Cell = Literal["lstm", "gru", "rnn"]


@dataclass(frozen=True)
class CellSpec:
    """What all backends and the training plan know of a cell; its equations are in a file for each backend.

    gates: how many blocks of `hidden` rows the weights of one layer stack, in PyTorch's order.
    state: the parts that one layer carries from one character to the next. The first is the hidden state, in [-1, 1],
        which the output and the layer above read.
    learning_rate: the highest of a network of one layer, where none is chosen.
    joined: whether the cell takes the sum of its two products, of the input and of its hidden state, so that above
        the first layer both are one product. A cell that takes them apart has a bias in each.
    forget_gate: which gate, if any, keeps the past; its bias begins at 1.
    """

    gates: int
    state: tuple[str, ...]
    learning_rate: float
    joined: bool = True
    forget_gate: int | None = None


# In the order of the kernel's table, model/kernel/cells.h.
CELLS: dict[Cell, CellSpec] = {
    # Gates: input, forget, cell, output. State: the hidden and the cell state.
    "lstm": CellSpec(gates=4, state=("h", "c"), learning_rate=6e-3, forget_gate=1),
    # Gates: reset, update, new; the reset gate multiplies the product of the hidden state alone.
    "gru": CellSpec(gates=3, state=("h",), learning_rate=3e-3, joined=False),
    "rnn": CellSpec(gates=1, state=("h",), learning_rate=1e-3),
}
