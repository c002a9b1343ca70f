"""Everything that fixes a training run, chosen or planned, as one value."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from model.config import NetworkConfig
from model.errors import ParameterError

Arithmetic = Literal["bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The plan of one run.

    network: the network to train.
    lanes, length: B sequences read in parallel, T characters per window; a step reads B × T characters.
    rate: the highest learning rate. decay: weight decay on matrices, decoupled (AdamW).
    clip: largest norm of the gradient over all weights.
    seed: fixes the initial weights, the places read and the dropped values.
    arithmetic: of the products: bf16 with fp32 sums and weights, or fp32.
    epochs, minutes: the budget; with both, whichever ends first. minutes count from the start of the command.
    """

    network: NetworkConfig
    lanes: int = 32
    length: int = 64
    rate: float = 4e-3
    decay: float = 0.01
    clip: float = 1.0
    seed: int = 1
    arithmetic: Arithmetic = "fp32"
    epochs: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        ranges = {"lanes": (1, 4096), "length": (2, 4096), "rate": (0, 1), "decay": (0, 1), "clip": (0, 1e6)}
        ranges |= {"epochs": (0, 1e5), "minutes": (0, 1e5)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value is not None and not (least <= value <= most and (value > 0 or name == "decay")):
                raise ParameterError(name, f"{name} is {value}; choose a number above {least} up to {most:g}.")

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, the network apart, as its checkpoint names it already."""
        values = asdict(self)
        del values["network"]
        return values
