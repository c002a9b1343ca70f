"""A run as TensorBoard shows it: curves and samples, written while it goes on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import TrainingError, UnrollError
from training.monitoring.watcher import Validation

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


FOLDER = "tensorboard"  # below the run's
EVERY = 50  # steps between two points of the training curve: enough for a curve, and no cost to a step of a millisecond
FLUSHED = 10  # seconds after which points are on disk at the latest, for those who watch


class TensorBoardLog:
    """Writes a run's scalars and samples to `tensorboard` in its folder; a `training.monitoring.watcher.Watcher`.

    folder: of the run. resumed_at: the step a run goes on from; points of an earlier log after that step are dropped.
    every: steps between two points of the training curve.
    Raises UnrollError where TensorBoard is not installed, TrainingError when the log cannot be begun. When the disk
    refuses later, the log ends and the run goes on. Close it, or use it as a context manager.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None, every: int = EVERY) -> None:
        self.folder, self.every = folder / FOLDER, every
        self.ended: str | None = None
        """Why the log has ended, as a sentence; None while it is written."""
        writer = _writer()
        purged = None if resumed_at is None else resumed_at + 1
        try:
            self._writer = writer(str(self.folder), purge_step=purged, flush_secs=FLUSHED)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its name is no Unicode"
            raise TrainingError(
                f"The TensorBoard log cannot be written to {self.folder} ({reason}); choose another --out, or "
                "train without --tensorboard."
            ) from error

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:
        """Add a point of the training curve, now and then."""
        if step % self.every == 0:
            values = {"bits/train": train_bits, "progress": progress, "characters per second": characters_per_second}
            self._write(step, values)

    def validated(self, validation: Validation) -> None:
        """Add the figures and samples of a validation; they are on disk when this returns."""
        values = {
            "bits/validation": validation.validation_bits,
            "learning rate": validation.rate,
            "gradient norm": validation.gradient_norm,
        }
        if validation.best:
            values["bits/best validation"] = validation.validation_bits
        self._write(validation.step, values, validation.samples)

    def told(self, note: str) -> None:
        """Nothing: the terminal and the report say it."""

    def close(self) -> None:
        """Write what is not on disk yet."""
        with self._refusable():
            self._writer.close()

    def _write(self, step: int, values: Mapping[str, float], samples: Mapping[str, str] | None = None) -> None:
        if self.ended is not None:
            return
        with self._refusable():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            for temperature, text in (samples or {}).items():
                self._writer.add_text(f"sample/temperature {temperature}", as_code(text), step)
            if samples is not None:
                self._writer.flush()

    @contextmanager
    def _refusable(self) -> Iterator[None]:
        """Write inside; when the disk refuses, the log ends."""
        try:
            yield
        except OSError as error:
            self.ended = (
                f"The TensorBoard log ends early: {self.folder} could not be written to ({error.strerror}); the run "
                "itself is not affected."
            )


def as_code(text: str) -> str:
    """A text as a block of code in Markdown, which TensorBoard shows letter for letter."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _writer() -> "type[SummaryWriter]":
    if find_spec("tensorboard") is None:
        raise UnrollError(
            "--tensorboard needs the package tensorboard; install it with `pip install tensorboard`, or Unroll with "
            "the extra `tensorboard`."
        )
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter
