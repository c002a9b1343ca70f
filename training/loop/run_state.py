"""The state of a run on disk between two steps: everything that is needed to resume it exactly."""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from model.errors import TrainingError
from model.files import replace_file
from training.distributed.ranks import ALONE, Ranks
from training.monitoring.watcher import Validation

FOLDER = "resume"  # in the run's folder; the service never opens it
CHECKED, LATEST = "checked.safetensors", "latest.safetensors"
ENDED = "ended.json"  # the state after the last validation of a run that used its budget
FORMAT = "unroll-training-state 1"
STATE = "standing"  # the name of the state in the file
WRITTEN_AS = {
    "position": "place",
    "validations": "checks",
    "next_validation": "next_check",
}  # names of fields in the file, if they differ


@dataclass
class RunState:
    """The progress of a run, without its tensors: plain numbers that JSON stores exactly.

    step, ids: the numbers of steps and of ids read.
    elapsed: seconds of the budget used.
    seconds: of them in the loop.
    loss, lowest, norm: the running mean in nats per id, its lowest value, and the running mean of the gradient's
    norm; None before the first step.
    next_validation: the progress at which the next validation comes.
    validated: ids read at each.
    rate: of the last step.
    rate_factor: its reduction by roll-backs.
    rolled_back: the number of roll-backs. averaged: steps in the average.
    stale: validations since the best.
    position: of the batches in the text.
    notes: sentences for the reader.
    """

    step: int = 0
    ids: int = 0
    elapsed: float = 0.0
    seconds: float = 0.0
    loss: float | None = None
    lowest: float | None = None
    norm: float | None = None
    next_validation: float | None = None
    validated: int = 0
    rate: float = 0.0
    rate_factor: float = 1.0
    rolled_back: int = 0
    averaged: int = 0
    stale: int = 0
    best_step: int = 0
    best_bits: float | None = None
    position: dict[str, Any] = field(default_factory=dict)
    validations: list[Validation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """The state as text that keeps every number exactly."""
        return json.dumps({WRITTEN_AS.get(name, name): value for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str) -> "RunState":
        """Read the result of `to_json`."""
        written = {"rate": 0.0, **json.loads(text)}  # earlier versions did not save it
        values = {name: written[WRITTEN_AS.get(name, name)] for name in (field.name for field in fields(cls))}
        return cls(**{**values, "validations": _validations(values["validations"])})


def _validations(written: list[dict[str, Any]]) -> list[Validation]:
    """Validations from their JSON values; earlier versions did not save which of them were the best until then."""
    lowest, validations = math.inf, []
    for values in written:
        bits = values["validation_bits"]
        validations.append(Validation(**{"best": bits < lowest, **values}))
        lowest = min(lowest, bits)
    return validations


@dataclass(frozen=True)
class Saved:
    """A moment between two steps: the state as JSON, and the learner's tensors by name, on the CPU."""

    state: str
    tensors: dict[str, Tensor]

    def write(self, path: Path) -> None:
        """Write it under a temporary name and rename it. Raises TrainingError if the disk refuses; the old file then
        remains."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, self.to_bytes())
        except OSError as error:
            raise TrainingError(f"{path} could not be written ({error.strerror}); make room on the disk.") from error

    def to_bytes(self) -> bytes:
        """The content of its file."""
        return safetensors.torch.save(self.tensors, {"format": FORMAT, STATE: self.state})

    @classmethod
    def read(cls, path: Path) -> "Saved":
        """Read the result of `write`. Raises TrainingError on anything else."""
        try:
            # By its descriptor, because safetensors only accepts paths in Unicode.
            with path.open("rb") as raw, safetensors.safe_open(f"/dev/fd/{raw.fileno()}", framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise TrainingError(f"{path} is not a training state that this Unroll can read; train again.")
                return cls(metadata[STATE], {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (OSError, safetensors.SafetensorError, KeyError) as error:
            raise TrainingError(f"{path} is damaged ({error}); remove it to continue from an earlier one.") from error


def newest(folder: Path, ranks: Ranks = ALONE) -> tuple[Saved, Saved] | None:
    """The moment to continue from, and the last good one, to which a roll-back returns; None without any.

    ranks: the first reads, and sends the result to the others. Raises TrainingError if a file is damaged.
    """
    pair = _newest(folder) if ranks.first else None
    states = ranks.of_first(lambda: None if pair is None else [saved.state for saved in pair])
    if ranks.count == 1 or states is None:
        return pair
    contents = [ranks.bytes_of_first(pair[number].to_bytes if pair else bytes) for number in range(2)]
    last, good = (Saved(*one) for one in zip(states, map(safetensors.torch.load, contents), strict=True))
    return last, good


def _newest(folder: Path) -> tuple[Saved, Saved] | None:
    found = [Saved.read(path) for name in (CHECKED, LATEST) if (path := folder / FOLDER / name).is_file()]
    if not found:
        return None
    return max(found, key=lambda saved: RunState.from_json(saved.state).step), found[0]


def write_end(folder: Path, state: RunState) -> None:
    """Save the state in which a run ended, so that it is not trained further. Raises TrainingError if the disk
    refuses."""
    path = folder / FOLDER / ENDED
    try:
        replace_file(path, state.to_json().encode())
    except OSError as error:
        raise TrainingError(f"{path} could not be written ({error.strerror}); make room on the disk.") from error


def read_end(folder: Path) -> RunState | None:
    """The state in which a run ended; None if it has not, or if an earlier version ended it."""
    path = folder / FOLDER / ENDED
    if not path.is_file():
        return None
    try:
        return RunState.from_json(path.read_text("utf-8"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise TrainingError(f"{path} is damaged ({error}); remove it to end the run again.") from error
