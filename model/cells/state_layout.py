"""Where each part of a row's state lies: parts of any width, by name, one after the other."""

from collections.abc import Mapping
from itertools import accumulate


class StateLayout:
    """The parts of a state (rows, floats), in order.

    widths: how many floats each part has, by name: h0, c0, h1, c1, … for an LSTM of layers 0, 1, ….
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        self.widths = dict(widths)
        ends = list(accumulate(self.widths.values(), initial=0))
        self.floats = ends[-1]
        """How many floats a row carries."""
        self._slices = {name: slice(*ends[at : at + 2]) for at, name in enumerate(self.widths)}

    def __getitem__(self, name: str) -> slice:
        """The columns of a part."""
        return self._slices[name]
