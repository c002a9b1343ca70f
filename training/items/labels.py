"""The labels of a list's items: what lies before the first "|" of each."""

import numpy as np
from numpy.typing import NDArray

from model.command_line.terminal import counted
from model.errors import CorpusError
from model.text.frame import LABEL_END, LARGEST_LABEL, MOST_LABELS
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids
from training.items.split import item_places

SHOWN = 60  # characters of an item in an error
GATHERED = 1 << 20  # ids looked at together


def labels_of(ids: Ids, tokenizer: Tokenizer) -> tuple[str, ...]:
    """The labels of a list (n,) whose items begin with them, in ascending order.

    Raises CorpusError where an item has none or too long a one, and where they are too many.
    """
    [mark] = tokenizer.encode(LABEL_END).tolist()
    starts, ends = item_places(ids, tokenizer)
    marks = np.append(np.flatnonzero(ids == mark), len(ids))
    label_ends = marks[np.searchsorted(marks, starts)]
    if len(without := np.flatnonzero((label_ends >= ends) | (label_ends == starts))):
        first = without[0]
        item = tokenizer.decode(ids[starts[first] : ends[first]][:SHOWN].tolist())
        item = item.removesuffix(tokenizer.frame.separator)
        have = f"{counted(len(starts), 'item')} {'has' if len(without) == 1 else 'have'}"
        raise CorpusError(
            f"{len(without):,} of {have} no label before a {LABEL_END}, the first is {item!r}; give each one, or leave "
            "out --label."
        )
    labels = sorted(tokenizer.decode(one) for one in _different(ids, starts, label_ends))
    if len(labels) > MOST_LABELS or max(map(len, labels), default=0) > LARGEST_LABEL:
        raise CorpusError(
            f"The list has {counted(len(labels), 'different label')}, the longest of {max(map(len, labels)):,} "
            f"characters; there may be {MOST_LABELS:,}, of {LARGEST_LABEL} characters. Is what stands before the first "
            f"{LABEL_END} a label? Else leave out --label."
        )
    return tuple(labels)


def _different(ids: Ids, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> list[list[int]]:
    """The different ones of some passages."""
    found: list[list[int]] = []
    lengths = ends - starts
    for length in np.unique(lengths).tolist():
        begins, own = starts[lengths == length], np.zeros((0, length), ids.dtype)
        step = max(1, GATHERED // length)
        for at in range(0, len(begins), step):
            rows = ids[begins[at : at + step, None] + np.arange(length)]
            own = np.unique(np.concatenate([own, rows]), axis=0)
        found += own.tolist()
    return found
