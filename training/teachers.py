"""Teachers: trained networks whose distributions over the train part a run learns in addition to the text.

Source: Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network"; of equal size: Furlanello et al.
2018, "Born-again neural networks".
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import Checkpoint, load, named_checkpoint
from model.command_line.terminal import in_a_line
from model.errors import ParameterError, TrainingError
from model.memory import UNLIMITED
from model.network import Network, State, from_tensors
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids
from training.data.batches import Taught
from training.evaluation.network_reader import read_rows
from training.loop.run_record import sum_of
from training.planning.config import TrainingConfig
from training.planning.train_options import OF_TEXTS

KEPT = 32  # ids at each position; of Shakespeare's 65, the others have 0.2 % of the probability
MOST_BYTES = 2 << 30  # for the distributions in each process
SEQUENCES = 64  # that are read in parallel
SHORTEST = 256  # ids of a sequence
LOGITS = 1 << 22  # that a teacher computes at a time


@dataclass(frozen=True)
class Teacher:
    """A checkpoint to learn from. path: its folder, absolute."""

    path: str
    checkpoint: Checkpoint

    @property
    def name(self) -> str:
        """Its name: the last part of its path, or of its run's path."""
        path = Path(self.path)
        return in_a_line(path.parent.name if path.name in ("best", "last") else path.name)

    @property
    def kept(self) -> tuple[str, str]:
        """Its path and the checksum of its weights, by which a resumed run recognises it."""
        return self.path, sum_of(self.checkpoint)

    def facts(self) -> dict[str, str]:
        """Its entry in a model card."""
        return {"name": self.name, "sha256": sum_of(self.checkpoint)}


def teachers_at(paths: Sequence[Path]) -> tuple[Teacher, ...]:
    """The teachers in some folders. Raises CheckpointError if one of them is not a checkpoint."""
    named = [named_checkpoint(path) for path in paths]
    return tuple(Teacher(os.path.abspath(path), load(path, UNLIMITED)) for path in named)


def teachers_of(kept: Sequence[tuple[str, str]]) -> tuple[Teacher, ...]:
    """The teachers of a run that is resumed. Raises TrainingError if one has changed."""
    teachers = teachers_at([Path(path) for path, _ in kept])
    for teacher, before in zip(teachers, kept, strict=True):
        if teacher.kept != before:
            raise TrainingError(f"The teacher {teacher.path} has changed since the run began; train a new run.")
    return teachers


def taught_bytes(ids: int, tokenizer: Tokenizer) -> int:
    """The bytes of the distributions over `ids` ids."""
    return ids * min(KEPT, tokenizer.size) * (tokenizer.dtype.itemsize + np.dtype(np.float16).itemsize)


def check_teachers(teachers: Sequence[Teacher], tokenizer: Tokenizer, ids: int) -> None:
    """Raise ParameterError if a run cannot learn from these teachers, or if their distributions would not fit.

    ids: of the train part.
    """
    if teachers and tokenizer.frame.items:
        raise ParameterError("teacher", OF_TEXTS)
    for teacher in teachers:
        theirs = teacher.checkpoint.tokenizer
        if theirs.characters != tokenizer.characters:
            raise ParameterError(
                "teacher",
                f"The teacher {teacher.name} knows {len(theirs.characters):,} characters that are not the "
                f"{len(tokenizer.characters):,} of this run; train a teacher on the same corpus, with the same "
                "--min-count.",
            )
        if theirs.frame.items:
            raise ParameterError("teacher", f"The teacher {teacher.name} has learnt a list; --teacher is for texts.")
    needed = taught_bytes(ids, tokenizer)
    if teachers and needed > MOST_BYTES:
        most = MOST_BYTES // (needed // ids)
        raise ParameterError(
            "teacher",
            f"What teachers expect of {ids:,} ids takes {needed / 1e9:.1f} GB, and {MOST_BYTES / 1e9:.1f} are allowed; "
            f"train on {most:,} ids at most, or without --teacher.",
        )


def teach(teachers: Sequence[Teacher], ids: Ids, config: TrainingConfig, device: torch.device) -> Taught:
    """The teachers' distribution for each of some ids (n,): the mean over the teachers.

    The text is read once, in parallel sequences, with carried state. The first id and fewer than `SEQUENCES` ids at
    the end are not predicted: there the distribution is the text itself. The same threads give the same bytes.
    """
    networks = [from_tensors(one.checkpoint.config, one.checkpoint.tensors).to(device) for one in teachers]
    vocabulary = networks[0].config.vocabulary
    kept = min(KEPT, vocabulary)
    expected = np.zeros((len(ids), kept), ids.dtype)
    chances = np.zeros((len(ids), kept), np.float16)
    expected[:, 0], chances[:, 0] = ids, 1
    sequences = max(1, min(SEQUENCES, (len(ids) - 1) // SHORTEST))
    width = (len(ids) - 1) // sequences
    inputs = ids[: sequences * width].reshape(sequences, width)
    states: list[State | None] = [None] * len(networks)
    length = max(1, min(SHORTEST, LOGITS // (sequences * vocabulary)))
    for at in range(0, width, length):
        window = inputs[:, at : at + length].astype(np.int64)
        mean = torch.zeros(*window.shape, vocabulary)
        for number, network in enumerate(networks):
            read, states[number] = _distributions(network, window, states[number], config)
            mean += read / len(networks)
        likeliest, which = mean.topk(kept, -1)
        places = np.arange(sequences)[:, None] * width + np.arange(at, at + window.shape[1]) + 1
        expected[places] = which.numpy()
        chances[places] = (likeliest / likeliest.sum(-1, keepdim=True)).numpy()
    return Taught(expected, chances, config.teacher_share)


def _distributions(
    network: Network, window: NDArray[np.int64], state: State | None, config: TrainingConfig
) -> tuple[Tensor, State]:
    """The distributions after each id of a window (B, T), as (B, T, V), and the state after."""
    parts, state = read_rows(
        network,
        (window, window),
        state,
        lambda logits, _: logits.float().softmax(-1).cpu(),
        threads=config.threads,
        bf16=config.precision == "bf16",
    )
    return torch.cat(parts), state
