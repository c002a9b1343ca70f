"""Everything that fixes a training run, chosen or planned, as one value."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from model.config import NetworkConfig
from model.errors import ParameterError

Arithmetic = Literal["bf16", "fp32"]

RANGES: dict[str, tuple[float, float, str]] = {
    "lanes": (1, 4096, "a whole number from 1 to 4,096"),
    "length": (2, 4096, "a whole number from 2 to 4,096"),
    "rate": (1e-9, 1, "a number above 0, up to 1"),
    "decay": (0, 1, "a number from 0 to 1"),
    "clip": (1e-9, 1e9, "a number above 0"),
    "seed": (0, 2**63 - 1, "a whole number from 0 to 2^63 - 1"),
}


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
        for name in ("lanes", "length", "rate", "decay", "clip", "seed"):
            least, most, wanted = RANGES[name]
            value = getattr(self, name)
            if not least <= value <= most:  # also refuses NaN
                raise ParameterError(name, f"{name} is {value}; choose {wanted}.")
        check_budget(self.epochs, self.minutes)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, the network apart, as its checkpoint names it already."""
        values = asdict(self)
        del values["network"]
        return values


def check_budget(epochs: float | None, minutes: float | None) -> None:
    """Raise ParameterError on a budget that is no positive number."""
    for name, value in (("epochs", epochs), ("minutes", minutes)):
        if value is not None and not 0 < value <= 1e5:
            raise ParameterError(name, f"{name} is {value}; choose a number above 0, up to 100,000.")
