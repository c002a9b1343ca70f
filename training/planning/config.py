"""Everything that fixes a training run, chosen or planned, as one value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from model.command_line.options import check_ranges
from model.config import NetworkConfig
from training.planning.regularisation import Regularisation
from training.planning.schedule import Decay
from training.planning.train_options import Compression, PlanOverrides, Precision
from training.row_threads import default_threads

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
    threads: that share a batch's rows on a CPU, of each process, a core each; another number gives
    the same up to the rounding of sums.
    accumulate: windows of a step, the gradient of which is that of all their ids. compression: of gradients on their
    way between processes.
    learn_after: the text in each item of a list after which it is learnt and scored; "" for all of it.
    teacher_share: of the loss that is the teachers'. 0 = without any.
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
    accumulate: int = 1
    compression: Compression = "none"
    learn_after: str = ""
    teacher_share: float = 0.0
    epochs: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        check_ranges(self, PlanOverrides)

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
