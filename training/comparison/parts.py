"""The finished parts of a comparison on disk, each a file: what was done once is not done again."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from model.errors import TrainingError
from model.files import replace_file

FOLDER, PLAN = "parts", "plan.json"

Part = dict[str, Any]
"""A part's `figures`, which the plan determines where its budget is one of steps, and its `times`, as JSON values."""


class _Kept(dict[str, Any]):
    """A table of a part on disk. Raises TrainingError where it is asked for a figure that it lacks."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise TrainingError(
            f"{self._path} lacks the figure {name}, as if another version of Unroll had written it; remove that file, "
            "and this part alone is done again."
        )


class Parts:
    """The parts of one comparison.

    folder: of the comparison. told: is called with the name of each part when it has been done or found.
    """

    def __init__(self, folder: Path, told: Callable[[str, bool], None]) -> None:
        self.folder, self.told = folder, told
        self.done: dict[str, Part] = {}

    def part(self, name: str, make: Callable[[], Part]) -> Part:
        """The part as it was kept, or made and kept. Several threads may ask, each for another one."""
        path = self.folder / FOLDER / f"{name}.json"
        found = _read(path)
        if found is None:
            made = make()
            write(path, made)
            found = _read(path) or made  # as JSON gives it back, whether it was just made or found
            self.told(name, False)
        else:
            self.told(name, True)
        self.done[name] = found
        return found


def _read(path: Path) -> Part | None:
    try:
        found = json.loads(path.read_text("utf-8"), object_hook=partial(_Kept, path))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and all(isinstance(found.get(name), dict) for name in ("figures", "times"))
    return found if whole else None


def write(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all; a number that is not finite becomes null.

    Raises TrainingError where the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
        replace_file(path, f"{written}\n".encode())
    except OSError as error:
        raise TrainingError(
            f"The comparison could not be written to {path} ({error.strerror}); free some space, or choose another "
            "--out. What was finished is kept."
        ) from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
