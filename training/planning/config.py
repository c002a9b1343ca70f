"""Everything that fixes a training run, chosen or planned, as one value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from model.config import NetworkConfig
from model.errors import ParameterError
from training.planning.regularisation import Regularisation
from training.planning.schedule import Decay
from training.row_threads import default_threads

Precision = Literal["bf16", "fp32"]

RANGES: dict[str, tuple[float, float, str]] = {
    "batch_size": (1, 4096, "a whole number from 1 to 4,096"),
    "sequence_length": (2, 4096, "a whole number from 2 to 4,096"),
    "jitter": (0, 1024, "a number from 0 to 1,024"),
    "learning_rate": (1e-9, 1, "a number above 0, up to 1"),
    "warmup_steps": (0, 10**6, "a whole number from 0 to a million"),
    "weight_decay": (0, 1, "a number from 0 to 1"),
    "max_grad_norm": (1e-9, 1e9, "a number above 0"),
    "average": (0, 1, "a share from 0 to 1"),
    "patience": (0, 10**6, "a whole number from 0 to a million"),
    "threads": (1, 256, "a whole number from 1 to 256"),
    "seed": (0, 2**63 - 1, "a whole number from 0 to 2^63 - 1"),
}

FORMER_NAMES = {
    "lanes": "batch_size",
    "length": "sequence_length",
    "rate": "learning_rate",
    "warm_up": "warmup_steps",
    "clip": "max_grad_norm",
    "arithmetic": "precision",
    "between_dropout": "layer_dropout",
}
"""Names of a plan as earlier versions stored them, in checkpoints and in folders of runs."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The plan of one run.

    network: the network to train. regularisation: what is left out by chance while it learns.
    batch_size, sequence_length: B sequences read in parallel, T characters of each; a step reads B × T characters.
    jitter: standard deviation of a sequence's length in characters.
    learning_rate: the highest. warmup_steps, decay: how it gets there in steps, and how it falls to zero.
    weight_decay: on matrices, decoupled (AdamW). max_grad_norm: largest norm of the gradient over all weights.
    average: share of the run, its tail, over which the weights are averaged. 0 = none.
    fit_temperature: whether the logits are scaled at the end as fits the validation part best (Guo et al. 2017).
    patience: validations without a new best after which the run ends. 0 = never.
    seed: fixes the initial weights, the places read and the dropped values.
    precision: of the matrix products: bf16 with fp32 sums and weights, or fp32.
    threads: that share a batch's rows on a CPU, a core each; another number gives the same up to the rounding of sums.
    epochs, minutes: the budget; with both, whichever ends first. minutes count from the start of the command.
    """

    network: NetworkConfig
    regularisation: Regularisation = field(default_factory=Regularisation)
    batch_size: int = 32
    sequence_length: int = 64
    jitter: float = 0.0
    learning_rate: float = 4e-3
    warmup_steps: int = 50
    decay: Decay = "linear"
    weight_decay: float = 0.02
    max_grad_norm: float = 1.0
    average: float = 0.0
    fit_temperature: bool = True
    patience: int = 0
    seed: int = 1
    precision: Precision = "fp32"
    threads: int = 1
    epochs: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name, (least, most, wanted) in RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:  # also refuses NaN
                raise ParameterError(name, f"{name} is {value}; choose {wanted}.")
        check_budget(self.epochs, self.minutes)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values, the network apart, as its checkpoint names it already."""
        values = asdict(self)
        del values["network"]
        return values

    @classmethod
    def from_json(cls, network: NetworkConfig, values: dict[str, Any]) -> "TrainingConfig":
        """Read what `to_json` wrote, of this version or an earlier one. Raises TypeError on an unknown name."""
        values = current_names(values)
        shares = current_names(values["regularisation"])
        if shares.get("tied") is False:  # as versions had it that could tie weights
            del shares["tied"]
        values = {"threads": default_threads(values["batch_size"]), **values}  # before them the cores were PyTorch's
        return cls(network=network, **{**values, "regularisation": Regularisation(**shares)})


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a stored plan under the names of today."""
    return {FORMER_NAMES.get(name, name): value for name, value in values.items()}


def check_budget(epochs: float | None, minutes: float | None) -> None:
    """Raise ParameterError on a budget that is no positive number."""
    for name, value in (("epochs", epochs), ("minutes", minutes)):
        if value is not None and not 0 < value <= 1e5:
            raise ParameterError(name, f"{name} is {value}; choose a number above 0, up to 100,000.")
