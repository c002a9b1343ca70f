"""What a training step leaves out by chance, drawn for the whole batch before its rows are shared out.

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
    """Factors for values (T, B, W) of which a share is left out: zero, or what makes up for the others.

    factors: (1, B, W) for a window, where the mask is locked. seeds: one a row (B,), of the chances of each character;
    None where they come from the device's own generator.
    """

    share: float = 0.0
    factors: Tensor | None = None
    seeds: Tensor | None = None

    def rows(self, part: slice) -> "Mask":
        """That of some rows of the batch."""
        factors = None if self.factors is None else self.factors[:, part]
        return replace(self, factors=factors, seeds=None if self.seeds is None else self.seeds[part])

    def of_rows(self, x: Tensor, rows: Tensor) -> Tensor:
        """x (N, W) with what is left out at zero. rows: of the batch, to which each of the N characters belongs."""
        return x if self.factors is None else x * self.factors[0].to(x.dtype)[rows]

    def __call__(self, x: Tensor) -> Tensor:
        """x (T, B, W) with what is left out at zero."""
        if not self.share:
            return x
        if self.factors is not None:
            return x * self.factors.to(x.dtype)
        if self.seeds is None:
            return F.dropout(x, self.share)
        drawn = [self._of_row(seed, x) for seed in self.seeds.tolist()]
        return x * torch.stack(drawn, 1).div_(1 - self.share).to(x.dtype)

    def _of_row(self, seed: int, x: Tensor) -> Tensor:
        """Ones and zeros (T, W)."""
        chance = torch.Generator(x.device).manual_seed(seed)
        return torch.empty(x.shape[0], x.shape[2], device=x.device).bernoulli_(1 - self.share, generator=chance)


@dataclass(frozen=True)
class Masks:
    """All that one step leaves out.

    state: (B, 1), zero for rows that start from a zero state; None where none does. weights: factors of each layer's
    W_hh (G·H, H), the same for all rows; empty where all count.
    """

    state: Tensor | None = None
    input: Mask = Mask()
    between: list[Mask] = field(default_factory=list)
    output: Mask = Mask()
    weights: list[Tensor] = field(default_factory=list)

    @property
    def locked(self) -> bool:
        """Whether all characters of a row have one mask, or there is none."""
        return all(not mask.share or mask.factors is not None for mask in (self.input, *self.between, self.output))

    def rows(self, part: slice) -> "Masks":
        """Those of some rows of the batch."""
        return Masks(
            None if self.state is None else self.state[part],
            self.input.rows(part),
            [mask.rows(part) for mask in self.between],
            self.output.rows(part),
            self.weights,
        )


class MaskSource:
    """Draws masks from PyTorch's global generator of a device.

    shared: whether rows are read by several processes, which then have to draw the same chances.
    """

    def __init__(
        self, network: NetworkConfig, regularisation: Regularisation, device: torch.device, shared: bool = False
    ) -> None:
        self.network, self.regularisation, self.device, self.shared = network, regularisation, device, shared

    def draw(self, rows: int, carried: bool) -> Masks:
        """The masks of the next step. carried: whether there is a state, rows of which may be left out."""
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
    """Factors (height, width) that leave a share of weights out, rounded to a 256th, and scale the others up for it.

    A byte of chance each, of which PyTorch draws eight at once: dropout's own draws, one by one on a CPU, take six
    times as long (LOG.md).
    """
    dropped, count = round(share * 256), height * width
    drawn = torch.empty((count + 7) // 8, dtype=torch.int64, device=device)
    chances = drawn.random_(-(2**63), None).view(torch.uint8)[:count].view(height, width)
    return (chances >= dropped).float().mul_(256 / (256 - dropped))
