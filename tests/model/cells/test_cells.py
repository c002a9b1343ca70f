"""The cells: one specification, the same equations in every backend, states of parts of any width."""

from typing import get_args

import numpy as np
import pytest
import torch

from model.cells.numpy_cells import NUMPY_CELLS
from model.cells.spec import CELLS, Cell
from model.cells.state_layout import StateLayout
from model.cells.torch_cells import TORCH_CELLS
from model.config import NetworkConfig

ROWS, HIDDEN = 3, 7


def test_every_backend_has_every_cell_and_no_other() -> None:
    assert list(CELLS) == list(NUMPY_CELLS) == list(TORCH_CELLS) == list(get_args(Cell))


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_numpy_and_pytorch_step_a_layer_alike(cell: Cell, summed: bool) -> None:
    """From gates of the two products apart; and from their sum, where the cell takes that."""
    if summed and not CELLS[cell].joined:
        pytest.skip("this cell takes its products apart")
    random, gates = np.random.default_rng(1), CELLS[cell].gates * HIDDEN
    parts = [random.uniform(-1, 1, (ROWS, HIDDEN)).astype(np.float32) for _ in CELLS[cell].state]
    past, x = (random.normal(0, 2, (ROWS, gates)).astype(np.float32) for _ in range(2))
    before = [torch.from_numpy(part.copy()) for part in parts]
    if summed:
        expected = TORCH_CELLS[cell].step(before, torch.from_numpy(past), torch.zeros(()))
    else:
        expected = TORCH_CELLS[cell].step(before, torch.from_numpy(past), torch.from_numpy(x))
    NUMPY_CELLS[cell](parts, past, None if summed else x)
    for part, same in zip(parts, expected, strict=True):
        np.testing.assert_allclose(part, same.numpy(), rtol=0, atol=1e-6)


def test_parts_of_any_width_lie_side_by_side() -> None:
    layout = StateLayout({"h0": 3, "c0": 2, "window": 4})
    assert layout.floats == 9
    state = np.arange(18).reshape(2, 9)
    assert [state[:, layout[name]].tolist() for name in ("window", "h0", "c0")] == [
        [[5, 6, 7, 8], [14, 15, 16, 17]],
        [[0, 1, 2], [9, 10, 11]],
        [[3, 4], [12, 13]],
    ]


def test_a_network_s_state_is_that_of_its_layers_from_the_lowest_up() -> None:
    config = NetworkConfig(cell="lstm", layers=2, hidden=5, embedding=3, vocabulary=300)
    assert config.state_layout().widths == {"h0": 5, "c0": 5, "h1": 5, "c1": 5}
    assert config.layer_state(1) == ["h1", "c1"]
