"""The masks of a training step's dropout, drawn for the whole batch before its rows are distributed.

So the values do not depend on how many threads and processes share the rows.
"""

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from model.cells.spec import CELLS
from model.config import NetworkConfig
from training.planning.regularisation import Regularisation


@dataclass(frozen=True)
class Mask:
    """Dropout's factors for values (T, B, W): zero, or a scale that makes up for the zeros.

    factors: (1, B, W) for a window, if the mask is locked.
    seeds: one for each row (B,), of the random numbers of each character; None if these come from the device's own
    generator.
    """

    share: float = 0.0
    factors: Tensor | None = None
    seeds: Tensor | None = None

    def rows(self, part: slice) -> "Mask":
        """The mask of some rows of the batch."""
        factors = None if self.factors is None else self.factors[:, part]
        return replace(self, factors=factors, seeds=None if self.seeds is None else self.seeds[part])

    def of_rows(self, x: Tensor, rows: Tensor) -> Tensor:
        """x (N, W) after dropout. rows: the row of the batch to which each of the N characters belongs."""
        return x if self.factors is None else x * self.factors[0].to(x.dtype)[rows]

    def __call__(self, x: Tensor) -> Tensor:
        """x (T, B, W) after dropout."""
        if not self.share:
            return x
        if self.factors is not None:
            return x * self.factors.to(x.dtype)
        if self.seeds is None:
            return F.dropout(x, self.share)
        drawn = [self._of_row(seed, x) for seed in self.seeds.tolist()]
        return x * torch.stack(drawn, 1).div_(1 - self.share).to(x.dtype)

    def _of_row(self, seed: int, x: Tensor) -> Tensor:
        """Random ones and zeros (T, W)."""
        chance = torch.Generator(x.device).manual_seed(seed)
        return torch.empty(x.shape[0], x.shape[2], device=x.device).bernoulli_(1 - self.share, generator=chance)


@dataclass(frozen=True)
class Masks:
    """All masks of one step.

    state: (B, 1), zero for rows that start from a zero state; None if none does.
    weights: factors of each layer's W_hh (G·H, H), the same for all rows; empty without weight drop.
    """

    state: Tensor | None = None
    input: Mask = Mask()
    between: list[Mask] = field(default_factory=list)
    output: Mask = Mask()
    weights: list[Tensor] = field(default_factory=list)

    @property
    def locked(self) -> bool:
        """Whether all characters of a row have the same mask, or there is none."""
        return all(not mask.share or mask.factors is not None for mask in (self.input, *self.between, self.output))

    def rows(self, part: slice) -> "Masks":
        """The masks of some rows of the batch."""
        return Masks(
            None if self.state is None else self.state[part],
            self.input.rows(part),
            [mask.rows(part) for mask in self.between],
            self.output.rows(part),
            self.weights,
        )


class MaskSource:
    """Draws masks from PyTorch's global generator of a device.

    shared: whether several processes read the rows; they must then draw the same random numbers.
    """

    def __init__(
        self, network: NetworkConfig, regularisation: Regularisation, device: torch.device, shared: bool = False
    ) -> None:
        self.network, self.regularisation, self.device, self.shared = network, regularisation, device, shared

    def draw(self, rows: int, carried: bool) -> Masks:
        """The masks of the next step. carried: whether there is a state, of which rows may be dropped."""
        network, chosen = self.network, self.regularisation
        state = None
        if carried and chosen.drop_state:
            state = torch.rand(rows, 1, device=self.device) >= chosen.drop_state
        first = self._mask(chosen.input_dropout, rows, network.embedding)
        between, weights = [], []
        for number in range(network.layers):
            if number:
                between.append(self._mask(chosen.layer_dropout, rows, network.hidden))
            if chosen.weight_drop:
                shape = (CELLS[network.cell].gates * network.hidden, network.hidden)
                weights.append(weight_factors(*shape, chosen.weight_drop, self.device))
        return Masks(state, first, between, self._mask(chosen.output_dropout, rows, network.output_width()), weights)

    def _mask(self, share: float, rows: int, width: int) -> Mask:
        if not share:
            return Mask()
        if self.regularisation.locked:
            kept = torch.empty(1, rows, width, device=self.device).bernoulli_(1 - share)
            return Mask(share, factors=kept.div_(1 - share))
        if self.device.type != "cpu" and not self.shared:
            return Mask(share)
        return Mask(share, seeds=torch.randint(2**63 - 1, (rows,)))


def weight_factors(height: int, width: int, share: float, device: torch.device) -> Tensor:
    """Factors (height, width) that drop a share of weights, rounded to a 256th, and scale up the others.

    Each takes one random byte, and PyTorch draws eight at once: dropout draws one by one on a CPU, which takes six
    times as long (LOG.md).
    """
    dropped, count = round(share * 256), height * width
    drawn = torch.empty((count + 7) // 8, dtype=torch.int64, device=device)
    chances = drawn.random_(-(2**63), None).view(torch.uint8)[:count].view(height, width)
    return (chances >= dropped).float().mul_(256 / (256 - dropped))
