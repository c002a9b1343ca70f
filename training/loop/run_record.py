"""The user's options of a run and its plan, kept beside its state for `--resume`."""

import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint, load, named_checkpoint
from model.command_line.terminal import in_a_line
from model.config import REMOVED, NetworkConfig, WeightsDtype, removed
from model.errors import CheckpointError, ParameterError, TokenizerError, TrainingError
from model.files import replace_file
from model.memory import UNLIMITED
from model.text.frame import PLAIN, TextFrame
from model.text.tokenizer import Tokenizer
from training.data.left_out import OnDecodeError
from training.data.prepared_corpus import Prepared
from training.items.separator import Label
from training.loop.run_state import FOLDER
from training.planning.config import TrainingConfig
from training.planning.plan import Plan
from training.planning.train_options import TrainOptions

PIPE = "-"
RECORD, BASE = "run.json", "base_tokenizer.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything that defines a run, except its state.

    names: of the corpus, absolute, "-" for a pipe; encoding, on_decode_error, min_count, scheme: how it is read and
    split; sha256: of its text.
    config: the plan.
    base: the checkpoint that the run continues, base_sha256 the checksum of its weights; None without one.
    characters_per_second: as planned; None if that was not measured.
    frame: how texts begin and end.
    label: the source of the items' labels.
    teachers: the checkpoints it learns from, each with the checksum of its weights.
    job: the start of the processes that began the run, from Ranks.
    scored, finish: the number of ids of each part to score at the end, and the seconds reserved for that, as measured
    when the run began; None in the record of an earlier version.
    """

    names: tuple[str, ...]
    encoding: str
    min_count: int
    scheme: str
    sha256: str
    dtype: WeightsDtype
    device: str
    tensorboard: bool
    command: tuple[str, ...]
    config: TrainingConfig
    base: str | None
    base_sha256: str | None
    characters_per_second: float | None = None
    on_decode_error: OnDecodeError = "fail"
    frame: TextFrame = PLAIN
    label: Label | None = None
    scored: int | None = None
    finish: float | None = None
    job: str = ""
    teachers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, options: TrainOptions, plan: Plan, prepared: Prepared, base: Checkpoint | None) -> "RunRecord":
        """The record of a new run."""
        return cls(
            names=tuple(os.path.abspath(name) if lasts(name) else PIPE for name in options.corpus),
            encoding=options.encoding,
            on_decode_error=options.on_decode_error,
            min_count=prepared.rare.min_count,
            scheme=options.split,
            sha256=prepared.facts.sha256,
            dtype=options.dtype,
            device=options.device,
            tensorboard=options.tensorboard,
            command=options.command,
            config=plan.config,
            characters_per_second=plan.characters_per_second,
            frame=prepared.tokenizer.frame,
            label=options.label,
            base=None if options.base is None else os.path.abspath(named_checkpoint(options.base)),
            base_sha256=None if base is None else sum_of(base),
        )

    def sources(self) -> tuple[str, ...]:
        """The corpus's names. Raises TrainingError if it came through a pipe, which cannot be read again."""
        if not self.resumable:
            raise TrainingError(
                "The run's corpus came through a pipe, which cannot be read again; save it to a file, and train the "
                "best checkpoint on with --from."
            )
        return self.names

    @property
    def resumable(self) -> bool:
        """Whether the corpus can be read again."""
        return all(lasts(name) for name in self.names)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        values = asdict(self) | {"config": self.config.to_json(), "network": self.config.network.to_json()}
        return {"version": VERSION, **values, "frame": self.frame.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RunRecord":
        """Read the result of `to_json`, of this version or an earlier one. A damaged one raises an error of its
        parsing."""
        values = {name: value for name, value in values.items() if name != "version"}
        network = NetworkConfig.from_json(values.pop("network"))
        values["config"] = TrainingConfig.from_json(network, values["config"])
        if "precision" in values:  # the name in earlier versions
            values["dtype"] = values.pop("precision")
        values |= {"names": tuple(values["names"]), "command": tuple(values["command"])}
        values["frame"] = TextFrame.from_json(values.get("frame", {}))
        values["teachers"] = tuple((path, sha256) for path, sha256 in values.get("teachers", ()))
        return cls(**values)

    def base_checkpoint(self) -> Checkpoint | None:
        """The checkpoint that the run continues. Raises TrainingError if it has changed since."""
        if self.base is None:
            return None
        base = load(Path(self.base), UNLIMITED)
        if sum_of(base) != self.base_sha256:
            raise TrainingError(f"The checkpoint {self.base} has changed since the run began; train a new run.")
        return base

    def base_facts(self) -> dict[str, str] | None:
        """The model card's facts about the checkpoint that the run continues."""
        if self.base is None or self.base_sha256 is None:
            return None
        path = Path(self.base)
        return {
            "name": in_a_line(path.parent.name if path.name in ("best", "last") else path.name),
            "sha256": self.base_sha256,
        }


def lasts(name: str) -> bool:
    """Whether a corpus can be read again under its name later: all can except pipes."""
    return name != PIPE and (os.path.isfile(name) or os.path.isdir(name) or not os.path.lexists(name))


def sum_of(checkpoint: Checkpoint) -> str:
    """The sha256 of a checkpoint's weights, in the order of their names."""
    content = hashlib.sha256()
    for name in sorted(checkpoint.tensors):
        content.update(checkpoint.tensors[name].tobytes())
    return content.hexdigest()


def write_record(out: Path, record: RunRecord, extending: Tokenizer | None) -> None:
    """Save a record, and the vocabulary that the run extends. Raises TrainingError if the disk refuses."""
    files = {RECORD: json.dumps(record.to_json(), indent=2) + "\n"}
    files |= {} if extending is None else {BASE: extending.to_json()}
    try:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            replace_file(out / FOLDER / name, text.encode())
    except OSError as error:
        raise TrainingError(f"The run cannot be written to {out} ({error.strerror}); choose another --out.") from error


def read_record(out: Path) -> tuple[RunRecord, Tokenizer | None]:
    """The record that `write_record` saved. Raises TrainingError if there is no run, or one of another version."""
    path = out / FOLDER / RECORD
    try:
        here = stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError as error:
        raise TrainingError(f"The run {out} cannot be read ({error.strerror}); resume it as its owner.") from error
    except (OSError, ValueError):
        here = False
    if not here:
        raise TrainingError(f"{out} has no run to resume ({path} does not exist); name the folder given as --out.")
    try:
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if values.get("version") != VERSION:
            raise TrainingError(f"{path} belongs to another version of Unroll; install that one, or train a new run.")
        if used := removed(values["network"], values["config"]):
            raise TrainingError(f"The run in {out} uses {used}, {REMOVED}")
        record = RunRecord.from_json(values)
        base = out / FOLDER / BASE
        return record, Tokenizer.from_json(base.read_text("utf-8")) if record.base is not None else None
    except (OSError, ValueError, TypeError, KeyError, ParameterError, TokenizerError, CheckpointError) as error:
        raise TrainingError(f"{path} is damaged ({error}); train a new run.") from error
