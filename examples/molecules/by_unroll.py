"""The model of the molecules, trained and asked with Unroll's commands."""

from collections.abc import Sequence
from pathlib import Path

from examples.running import RecipeError, command

STATE = "resume"  # in a run's folder: what `unroll train --resume` goes on from
STOPPED = "What was trained is saved; the same command goes on with it."


def train(corpus: Path, run: Path, options: Sequence[str]) -> Path:
    """Train on a list, or go on with a run that was stopped; the checkpoint. What it says goes to the terminal.

    A run that is complete is left as it is. options: of `unroll train`. Raises RecipeError where the run that is there
    was begun with others.
    """
    made_by, how = run.with_name("trained_with.txt"), "\n".join(options)
    begun = (run / STATE).is_dir()
    if begun and made_by.is_file() and made_by.read_text("utf-8") != how:
        raise RecipeError(
            f"The run at {run} was begun with other options, {made_by.read_text('utf-8').replace(chr(10), ' ')}; go on "
            "with these, or name another folder with --out."
        )
    try:
        if begun:
            command("train", "--resume", str(run), shown=True)
        else:
            made_by.write_text(how, encoding="utf-8")
            command("train", str(corpus), "--items", "--out", str(run), "--overwrite", *options, shown=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(STOPPED if (run / STATE).is_dir() else "") from None
    return run / "best"


def draw(checkpoint: Path, count: int, temperature: float, seed: int, file: Path) -> list[str]:
    """Molecules drawn in bulk, into a file and from there. An earlier file is replaced."""
    file.unlink(missing_ok=True)
    sampling = ("--count", str(count), "--temperature", str(temperature), "--seed", str(seed))
    command("generate", str(checkpoint), *sampling, "--max-tokens", "200", "--out", str(file))
    return file.read_text("utf-8").splitlines()
