"""The run that several processes begin or resume: the first process reads it and sends it to the others."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from model.checkpoint import CONFIG, TOKENIZER, WEIGHTS, Checkpoint, load
from model.errors import CorpusError, TrainingError
from model.memory import UNLIMITED
from model.text.tokenizer import Tokenizer
from training.distributed.ranks import Ranks
from training.loop.run_record import RunRecord, lasts, read_record
from training.loop.run_state import RunState, read_end
from training.planning.run_folder import newest_folder
from training.planning.train_options import TrainOptions

NEEDED = (CONFIG, WEIGHTS, TOKENIZER)  # files of a checkpoint


def check_readable(corpus: Sequence[str], ranks: Ranks) -> None:
    """Raise CorpusError if several processes would have to read one pipe."""
    if ranks.count > 1 and not all(lasts(name) for name in corpus):
        raise CorpusError(
            "The corpus comes through a pipe, which only one of several processes can read; save it to a file first."
        )


def begun_before(options: TrainOptions, ranks: Ranks) -> Path | None:
    """The run that these processes began before torchrun restarted them; None if there is none."""
    found = ranks.of_first(lambda: _begun_before(options, ranks))
    return None if found is None else Path(found)


def _begun_before(options: TrainOptions, ranks: Ranks) -> str | None:
    if not ranks.restarts or (out := options.out or newest_folder(options)) is None:
        return None
    try:
        return os.fspath(out) if read_record(out)[0].job == ranks.job else None
    except TrainingError:
        return None


def record_of_first(out: Path, ranks: Ranks) -> tuple[RunRecord, Tokenizer | None]:
    """The result of `read_record` in the first process, in all processes. Raises the TrainingError of that."""
    read = read_record(out) if ranks.first else None
    if ranks.count == 1:
        assert read is not None
        return read

    def told() -> tuple[dict[str, object], str | None]:
        assert read is not None
        return read[0].to_json(), None if read[1] is None else read[1].to_json()

    record, tokenizer = ranks.of_first(told)
    return RunRecord.from_json(record), None if tokenizer is None else Tokenizer.from_json(tokenizer)


def end_of_first(out: Path, ranks: Ranks) -> RunState | None:
    """The result of `read_end` in the first process, in all processes. Raises the TrainingError of that."""

    def told() -> str | None:
        return None if (end := read_end(out)) is None else end.to_json()

    found = ranks.of_first(told)
    return None if found is None else RunState.from_json(found)


def checkpoint_of_first(folder: Path, ranks: Ranks) -> Checkpoint:
    """The checkpoint in a folder of the first process's machine, in all processes.

    Raises CheckpointError in the first process if it is damaged.
    """
    checkpoint = load(folder, UNLIMITED) if ranks.first else None
    contents = {} if ranks.count == 1 else {name: ranks.bytes_of_first((folder / name).read_bytes) for name in NEEDED}
    if checkpoint is not None:
        return checkpoint
    with TemporaryDirectory() as copied:
        for name, content in contents.items():
            (Path(copied) / name).write_bytes(content)
        return load(Path(copied), UNLIMITED)
