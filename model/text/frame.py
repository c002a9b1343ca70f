"""How the texts of a model begin and end: lists of items have a real beginning and end, one long text has neither."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.text.utf8_ids import Ids

START = 0xFF
"""The id that is read before an item: the byte that no UTF-8 text has, so that nothing but a beginning is read so."""

LARGEST_SEPARATOR = 64  # characters
LARGEST_CONTEXT = 1024  # characters; each empty prompt costs as much as a prompt of this length


@dataclass(frozen=True)
class TextFrame:
    """What is read before the first character of a text, and what ends it.

    separator: what ends each item of a list; "" where the model learnt one long text. An item begins from the zero
        state after the id START.
    context: of one long text, characters that are read before an empty prompt, so that a new line begins as it does
        inside of a text. "" reads a line break.
    Raises ValueError where one of them is too long, or both are there.
    """

    separator: str = ""
    context: str = ""

    def __post_init__(self) -> None:
        if len(self.separator) > LARGEST_SEPARATOR or len(self.context) > LARGEST_CONTEXT:
            raise ValueError(f"a separator has at most {LARGEST_SEPARATOR:,} characters, a context {LARGEST_CONTEXT:,}")
        if self.separator and self.context:
            raise ValueError("items begin without a context")

    @property
    def items(self) -> bool:
        """Whether a text is an item."""
        return self.separator != ""

    def to_json(self) -> dict[str, str]:
        """What is not empty, by name."""
        return {name: value for name, value in (("separator", self.separator), ("context", self.context)) if value}

    @classmethod
    def from_json(cls, values: Any) -> "TextFrame":
        """Read what `to_json` wrote. Raises ValueError on anything else."""
        names = {"separator", "context"}
        if not isinstance(values, dict) or not names.issuperset(values):
            raise ValueError(f"it is not a table of {' and '.join(sorted(names))}")
        if not all(type(value) is str and value for value in values.values()):
            raise ValueError("a separator or context is not a text")
        return cls(**values)


PLAIN = TextFrame()
"""One long text, as all models were before there were frames."""


def item_ends(ids: Ids, separator: Sequence[int]) -> NDArray[np.int64]:
    """Where items end in a text (n,), each right after its separator; what follows the last separator is none.

    separator: its ids, one at least. Separators do not overlap: the first of two that do counts.
    """
    last = len(ids) - len(separator) + 1
    found = np.flatnonzero(ids[: max(0, last)] == separator[0])
    for at, one in enumerate(separator[1:], 1):
        found = found[ids[found + at] == one]
    if len(separator) > 1 and len(found) > 1 and (np.diff(found) < len(separator)).any():
        kept, free = [], 0
        for start in found.tolist():
            if start >= free:
                kept.append(start)
                free = start + len(separator)
        found = np.array(kept)
    ends: NDArray[np.int64] = found.astype(np.int64) + len(separator)
    return ends
