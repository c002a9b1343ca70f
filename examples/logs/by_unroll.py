"""A model of a log's usual lines, trained and asked with Unroll's commands."""

import json
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from examples.logs.surprise import Scores, figures
from examples.running import RecipeError, command

PACED = 2_000_000  # characters that are scored to see how fast that goes


def train(lines: Sequence[str], folder: Path, options: Sequence[str]) -> Path:
    """Train on lines; the checkpoint. One that the same lines and options made is used again.

    folder: of the run. options: of `unroll train`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    corpus, run, made_by = folder / "train.txt", folder / "run", folder / "trained_with.txt"
    how = "\n".join([*options, *lines])
    if made_by.is_file() and made_by.read_text("utf-8") == how:
        return checkpoint_of(folder)
    made_by.unlink(missing_ok=True)
    command("train", str(write(corpus, lines)), "--items", "--overwrite", "--out", str(run), *options)
    made_by.write_text(how, encoding="utf-8")
    return checkpoint_of(folder)


def checkpoint_of(folder: Path) -> Path:
    """The checkpoint that was trained in a folder."""
    return folder / "run" / "best"


def score(checkpoint: Path, lines: Sequence[str], file: Path) -> Scores:
    """How much each line surprises, its end among its characters. file: where the lines are written for that."""
    found = command("score", str(checkpoint), str(write(file, lines)), *RANKED, "--format", "jsonl").splitlines()
    scored = [json.loads(line) for line in found]
    if [one["text"] for one in scored] != list(lines):
        raise RecipeError(f"`unroll score` read other lines in {file} than were written there.")
    bits, per_character, highest = (
        np.array([one[field] for one in scored]) for field in ("bits", "bits_per_character", "highest")
    )
    return figures(bits, per_character, highest)


RANKED = ("--ends", "--by", "highest")


def pace(checkpoint: Path, lines: Sequence[str], file: Path, characters: int = PACED) -> float:
    """Characters that `unroll score` reads in a second of one core, its start among them."""
    size = sum(len(line) + 1 for line in lines)
    write(file, list(lines) * max(1, characters // size))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command("score", str(checkpoint), str(file), *RANKED, "--top", "1", "--threads", "1")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return file.stat().st_size / seconds


def write(file: Path, lines: Sequence[str]) -> Path:
    """Write lines; where to."""
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file
