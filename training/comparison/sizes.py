"""Networks of equal parameters: the width of each cell, and of a self-attention layer, that comes nearest."""

from collections.abc import Callable
from typing import Literal, get_args

from model.cells.spec import CELLS, Cell
from model.config import NetworkConfig

STEP = 8  # widths are multiples of it, as the kernels' vectors like them
EMBEDDING = 32
ATTENTION = 256  # characters that the hybrid points back at

Compared = Literal["lstm", "gru", "rnn", "hybrid"]
"""What can be compared: the cells, and an LSTM with attention over its hidden states."""


def nearest_width(parameters: Callable[[int], int], wanted: int, step: int = STEP) -> int:
    """The multiple of `step` at which a count that grows with the width comes nearest to the wanted one."""
    above = step
    while parameters(above) < wanted:
        above += step
    below = max(step, above - step)
    return min((below, above), key=lambda width: abs(parameters(width) - wanted))


def cell_of(compared: Compared) -> Cell:
    """The cell of its layers."""
    return "lstm" if compared == "hybrid" else compared


def alone(compared: Compared) -> bool:
    """Whether it is a cell and nothing else, so that it can be taken from its text and put to another task."""
    return compared in get_args(Cell)


def equal_networks(cells: tuple[Compared, ...], parameters: int, vocabulary: int) -> dict[Compared, NetworkConfig]:
    """A network of one layer for each cell, all with about as many parameters and the same embedding."""

    def network(cell: Compared, hidden: int) -> NetworkConfig:
        return NetworkConfig(
            cell=cell_of(cell),
            layers=1,
            hidden=hidden,
            embedding=EMBEDDING,
            vocabulary=vocabulary,
            attention=0 if alone(cell) else ATTENTION,
        )

    return {
        cell: network(cell, nearest_width(lambda width, cell=cell: network(cell, width).parameters(), parameters))  # type: ignore[misc]
        for cell in cells
    }


def layer_parameters(cell: Cell, inputs: int, hidden: int) -> int:
    """Numbers that one layer of a cell learns: two matrices and two biases for each gate."""
    return CELLS[cell].gates * hidden * (inputs + hidden + 2)


def attention_width(parameters: int, vocabulary: int) -> int:
    """The width of a self-attention layer (embedding, four square matrices, output) of about as many parameters."""
    return nearest_width(lambda d: 4 * d * d + 2 * vocabulary * d + vocabulary, parameters)
