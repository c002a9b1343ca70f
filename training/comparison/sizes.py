"""Networks of equal parameters: the width of each cell, and of a self-attention layer, that comes nearest."""

from collections.abc import Callable

from model.cells.spec import CELLS, Cell
from model.config import NetworkConfig

STEP = 8  # widths are multiples of it, as the kernels' vectors like them
EMBEDDING = 32


def nearest_width(parameters: Callable[[int], int], wanted: int, step: int = STEP) -> int:
    """The multiple of `step` at which a count that grows with the width comes nearest to the wanted one."""
    above = step
    while parameters(above) < wanted:
        above += step
    below = max(step, above - step)
    return min((below, above), key=lambda width: abs(parameters(width) - wanted))


def equal_networks(cells: tuple[Cell, ...], parameters: int, vocabulary: int) -> dict[Cell, NetworkConfig]:
    """A network of one layer for each cell, all with about as many parameters and the same embedding."""

    def network(cell: Cell, hidden: int) -> NetworkConfig:
        return NetworkConfig(cell=cell, layers=1, hidden=hidden, embedding=EMBEDDING, vocabulary=vocabulary)

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
