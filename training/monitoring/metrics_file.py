"""The file metrics.jsonl of a run, which gets one line for each validation."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from training.monitoring.watcher import Validation

METRICS = "metrics.jsonl"


class MetricsFile:
    """Writes a line of JSON for every validation of a run.

    earlier: the validations before the moment a resumed run goes on from; later lines of the file are dropped.
    """

    def __init__(self, folder: Path, earlier: Sequence[Validation] = ()) -> None:
        self.path = folder / METRICS
        self.path.write_text("".join(map(_line, earlier)), "utf-8")

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:
        """Nothing: a line per step would be a file as long as the corpus."""

    def validated(self, validation: Validation) -> None:
        """Append one line; it is on disk when this returns. A full disk costs the line, not the run."""
        with suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(validation))

    def told(self, note: str) -> None:
        """Nothing: the card and the report hold the notes."""


def _line(validation: Validation) -> str:
    return json.dumps(asdict(validation), ensure_ascii=False) + "\n"
