"""How surprising a model finds its own held-out text, by the length of a passage: the scale for other texts.

`training/evaluation/measure_surprise.py` measures it once and keeps it in the checkpoint's `training` table.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NAME = "held_out_surprise"  # of the block in the `training` table
QUANTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)  # in percent
MOST_LENGTHS = 64  # passages are measured at a handful of lengths; every score looks through all of them
MOST_SCALES = 4096  # lengths of texts whose scales are kept


@dataclass(frozen=True)
class HeldOutSurprise:
    """The distribution of bits per character over passages of held-out text.

    lengths: the quantiles `QUANTILES` in ascending order for each length of a passage in characters, shortest first.
    protocol: which passages, and how they were read, in words.
    """

    lengths: Mapping[int, tuple[float, ...]]
    protocol: str
    _scales: dict[int, list[float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> "HeldOutSurprise | None":
        """What a checkpoint's `training` table holds; None where there is nothing, or not what `to_json` wrote."""
        written = training.get(NAME)
        if not isinstance(written, dict) or written.get("quantiles") != list(QUANTILES):
            return None
        lengths, protocol = written.get("lengths"), written.get("protocol")
        if not isinstance(lengths, dict) or not 0 < len(lengths) <= MOST_LENGTHS or not isinstance(protocol, str):
            return None
        if not all(_is_length(length) and _are_quantiles(values) for length, values in lengths.items()):
            return None
        return cls({length: tuple(lengths[str(length)]) for length in sorted(map(int, lengths))}, protocol)

    def to_json(self) -> dict[str, Any]:
        """The distribution as JSON values, rounded to what repeats on another machine."""
        return {
            "protocol": self.protocol,
            "unit": "bits per character",
            "quantiles": list(QUANTILES),
            "lengths": {str(length): [round(value, 4) for value in values] for length, values in self.lengths.items()},
        }

    def percentile(self, bits_per_character: float, characters: int) -> float:
        """The percentage of the held-out passages of about this length, in characters, that surprise less."""
        return float(np.interp(bits_per_character, self.scale(characters), QUANTILES))

    def median(self, characters: int) -> float:
        """The median bits per character of the held-out passages of about this length, in characters."""
        return self.scale(characters)[QUANTILES.index(50)]

    def scale(self, characters: int) -> list[float]:
        """The quantiles at a length: between those measured, in its logarithm; beyond them as at the nearest."""
        scale = self._scales.get(characters)
        if scale is None:
            at, measured = math.log(max(characters, 1)), [math.log(length) for length in self.lengths]
            scale = [float(np.interp(at, measured, values)) for values in zip(*self.lengths.values(), strict=True)]
            if len(self._scales) < MOST_SCALES:
                self._scales[characters] = scale
        return scale


def _is_length(written: Any) -> bool:
    return isinstance(written, str) and re.fullmatch("[1-9][0-9]{0,8}", written) is not None


def _are_quantiles(written: Any) -> bool:
    return (
        isinstance(written, list)
        and len(written) == len(QUANTILES)
        and all(type(value) in (int, float) and math.isfinite(value) and value >= 0 for value in written)
        and written == sorted(written)
    )
