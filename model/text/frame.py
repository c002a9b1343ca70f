"""How the texts of a model begin and end: lists of items have a real beginning and end, one long text has neither."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ParameterError
from model.text.chat_format import ChatFormat
from model.text.utf8_ids import Ids

START = 0xFF
"""The id that is read before an item: the byte that no UTF-8 text has, so that nothing but a beginning is read so."""

LARGEST_SEPARATOR = 64  # characters
LABEL_END = "|"  # what stands between an item's label and the item
MOST_LABELS, LARGEST_LABEL = 1024, 64  # characters of one
SHOWN_LABELS = 10  # in an error

LARGEST_CONTEXT = 1024  # characters; each empty prompt costs as much as a prompt of this length


@dataclass(frozen=True)
class TextFrame:
    """What is read before the first character of a text, and what ends it.

    separator: what ends each item of a list; "" where the model learnt one long text. An item begins from the zero
        state after the id START.
    context: of one long text, characters that are read before an empty prompt, so that a new line begins as it does
        inside of a text. "" reads a line break.
    labels: with which items begin, each followed by "|", in ascending order; () where items have none.
    chat: how the model has learnt to chat; None where nobody said.
    Raises ValueError where one of them is too long, they are too many, or there is a context of items.
    """

    separator: str = ""
    context: str = ""
    labels: tuple[str, ...] = ()
    chat: ChatFormat | None = None

    def __post_init__(self) -> None:
        if len(self.separator) > LARGEST_SEPARATOR or len(self.context) > LARGEST_CONTEXT:
            raise ValueError(f"a separator has at most {LARGEST_SEPARATOR:,} characters, a context {LARGEST_CONTEXT:,}")
        if self.separator and self.context:
            raise ValueError("items begin without a context")
        if len(self.labels) > (MOST_LABELS if self.separator else 0):
            raise ValueError(f"items have at most {MOST_LABELS:,} labels, and one long text has none")
        if list(self.labels) != sorted(set(self.labels)) or not all(map(self._is_label, self.labels)):
            raise ValueError(f"a label has 1 to {LARGEST_LABEL} characters, none of them {LABEL_END}, and stands once")

    @property
    def items(self) -> bool:
        """Whether a text is an item."""
        return self.separator != ""

    def _is_label(self, label: str) -> bool:
        return 0 < len(label) <= LARGEST_LABEL and LABEL_END not in label and self.separator not in label

    def labelled(self, label: str | None) -> str:
        """What stands before an item of a label, to be put before a prompt; "" for None.

        Raises ParameterError on a label there is not.
        """
        if label is None:
            return ""
        if label not in self.labels:
            if not self.labels:
                raise ParameterError("label", "This model's texts have no labels; leave out label.")
            near = difflib.get_close_matches(label[:LARGEST_LABEL], self.labels, n=1)
            others = ", ".join(self.labels[:SHOWN_LABELS]) + " …" * (len(self.labels) > SHOWN_LABELS)
            remedy = f"did you mean {near[0]}?" if near else f"there are: {others}."
            raise ParameterError("label", f"There is no label {label[:LARGEST_LABEL]}; {remedy}")
        return label + LABEL_END

    def to_json(self) -> dict[str, Any]:
        """What is not empty, by name."""
        values: dict[str, Any] = {"separator": self.separator, "context": self.context, "labels": list(self.labels)}
        if self.chat is not None:
            values["chat"] = self.chat.to_json()
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, values: Any) -> "TextFrame":
        """Read what `to_json` wrote. Raises ValueError on anything else."""
        names = {"separator", "context", "labels", "chat"}
        if not isinstance(values, dict) or not names.issuperset(values):
            raise ValueError(f"it is not a table of {' and '.join(sorted(names))}")
        texts = {name: value for name, value in values.items() if name not in ("labels", "chat")}
        labels = values.get("labels", [])
        if not all(type(value) is str and value for value in texts.values()):
            raise ValueError("a separator or context is not a text")
        if type(labels) is not list or not all(type(label) is str for label in labels):
            raise ValueError("the labels are not a list of texts")
        chat = ChatFormat.from_json(values["chat"]) if "chat" in values else None
        return cls(**texts, labels=tuple(labels), chat=chat)


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


def answer_starts(
    ids: Ids, starts: NDArray[np.int64], ends: NDArray[np.int64], after: Sequence[int]
) -> NDArray[np.int64]:
    """The first place of each item (items,) that is learnt and scored: right after the first `after` in it.

    ids: a list (n,). starts, ends: of its items, in ascending order. after: the ids that end a question; () where there
    are none. An item without them counts from its start.
    """
    if not after or not len(starts):
        return starts
    found = item_ends(ids, after)
    following = np.searchsorted(found, starts + len(after))  # the first that ends inside of the item, or a later one
    first = np.append(found, len(ids) + 1)[following]
    return np.where(first < ends, first, starts)
