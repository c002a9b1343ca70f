"""A corpus that is a list of items: cut into parts item by item, equal items on one side only."""

import os
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.command_line.terminal import counted
from model.errors import CorpusError
from model.files import NO_ROOM
from model.text.frame import answer_starts, item_ends
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids
from training.data.sources import no_temporary_room
from training.data.split import SMALLEST, Split
from training.data.split_scheme import shares_of

FEWEST = 20  # different items, or questions, of which some are held out
SEED = 1  # of the split; not the run's, so that runs of other seeds hold the same items out
IN_MEMORY = 1 << 25  # ids of a part that are kept in memory; more go to a file that has no name
GATHERED = 1 << 20  # ids moved at once


def split_items(
    ids: Ids,
    scheme: str,
    tokenizer: Tokenizer,
    any_number: bool = False,
    learn_after: str = "",
    remedy: str = "name another list",
) -> Split:
    """Cut a list (n,) by a scheme into parts of whole items, each with its separator; empty items are left out.

    On which side an item lies follows from its characters alone, or from those of its question: equal items, and
    answers to one question, are on one side, and the order of the list changes nothing. Train is in the list's order,
    the held-out parts are in an order that says nothing. Where there are fewer than 20 different items, or questions,
    none is held out: all parts are the whole list.
    any_number: whether one item is enough, as to train a checkpoint on. learn_after: the text in an item after which
    it is learnt. remedy: what to do where no item has it. Raises CorpusError where there are too few items, and where
    none has that text.
    """
    shares = shares_of(scheme)
    separator = tokenizer.encode(tokenizer.frame.separator).tolist()
    starts, ends = item_places(ids, tokenizer)
    characters = int((ends - starts).sum())
    if not len(ends) or (characters < SMALLEST and not any_number):
        size = f"{counted(len(ends), 'item')} of {counted(characters, 'character')} together"
        raise CorpusError(
            f"The list has {size}, too few to learn from; "
            f"{SMALLEST:,} characters are enough to start, and one item to train a checkpoint on, with --from."
        )
    after = tuple(tokenizer.encode(learn_after).tolist())
    answers = answer_starts(ids, starts, ends, after)
    if after and (answers == starts).all():
        raise CorpusError(f"No item has {learn_after!r}, after which it would be learnt; {remedy}.")
    marks = _marks(ids, starts, np.where(answers > starts, answers, ends), tokenizer)
    held_out = len(different := np.unique(marks)) >= FEWEST
    if not held_out:
        every = _gathered(ids, starts, ends)
        return Split(scheme, every, every, every, tuple(separator), held_out=False, learn_after=after)
    first, second = (int(share * 2.0**64) for share in shares)
    if not (different < first).any() or not ((different >= first) & (different < second)).any():
        first, second = 0, 0
    if not second or not (different >= second).any():  # by rank, where chance left a part empty
        places = [min(max(1, int(share * len(different))), len(different) - 2) for share in shares]
        first, second = int(different[places[0]]), int(different[max(places[1], places[0] + 1)])
    order = np.argsort(marks, kind="stable")
    sides = [np.flatnonzero(marks < first), order[(marks[order] >= first) & (marks[order] < second)]]
    sides.append(order[marks[order] >= second])
    train, validation, test = (_gathered(ids, starts[side], ends[side]) for side in sides)
    return Split(scheme, train, validation, test, tuple(separator), learn_after=after)


def too_few(answers: object) -> str:
    """Why nothing of a list is held out, in words. answers: whether they alone are learnt, so that questions count."""
    return f"fewer than {FEWEST} different {'questions' if answers else 'items'}"


def learnt_after(model: Checkpoint) -> str:
    """The text in an item after which a checkpoint has learnt it; empty where it has learnt all of it."""
    plan = model.training.get("plan", {})
    text = plan.get("learn_after", "") if isinstance(plan, dict) else ""
    return text if isinstance(text, str) else ""


def all_items(ids: Ids, tokenizer: Tokenizer) -> Ids:
    """The items of a list (n,) one after the other, each with its separator; empty items are left out."""
    return _gathered(ids, *item_places(ids, tokenizer))


def item_places(ids: Ids, tokenizer: Tokenizer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the items of a list (n,) that are not empty begin, and where they end, each with its separator."""
    separator = tokenizer.encode(tokenizer.frame.separator).tolist()
    ends = item_ends(ids, separator)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
    whole = ends - starts > len(separator)
    return starts[whole], ends[whole]


def _marks(ids: Ids, starts: NDArray[np.int64], ends: NDArray[np.int64], tokenizer: Tokenizer) -> NDArray[np.uint64]:
    """A number for each item that follows from its characters alone, evenly spread over 64 bits."""
    # By code points and not by ids, so that a list has the same parts in every vocabulary.
    points = np.array([*range(256), *map(ord, tokenizer.characters)], np.uint64)
    points[:256] += np.uint64(0x110000)
    chance = np.random.default_rng(SEED)
    marks = np.zeros(len(starts), np.uint64)
    powers = np.cumprod(np.full(int((ends - starts).max()), chance.integers(2**62) * 2 + 1, np.uint64), dtype=np.uint64)
    for block in _blocks(ends - starts):
        places, lengths = _places(starts[block], ends[block])
        begins = np.cumsum(lengths) - lengths
        within = np.arange(len(places)) - np.repeat(begins, lengths)
        marks[block] = np.add.reduceat(points[ids[places]] * powers[within], begins)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):  # SplitMix64's last steps
        marks = (marks ^ (marks >> np.uint64(shift))) * np.uint64(factor)
    return marks


def _gathered(ids: Ids, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Ids:
    """Items one after the other, (n,); in a file that goes with the process where they are many."""
    size = int((ends - starts).sum())
    gathered: Any = np.empty(size, ids.dtype)
    if size > IN_MEMORY:
        with tempfile.TemporaryFile() as file:
            _allocate(file, size * ids.itemsize)
            gathered = np.memmap(file, ids.dtype, "w+", shape=(size,))
    at = 0
    for block in _blocks(ends - starts):
        places, _ = _places(starts[block], ends[block])
        gathered[at : at + len(places)] = ids[places]
        at += len(places)
    gathered.flags.writeable = False
    return np.asarray(gathered)


def _allocate(file: IO[bytes], size: int) -> None:
    """Take room on the disk: a process that writes into a map ends by a signal where there is none."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise no_temporary_room(error) from error  # others: the file system cannot do it


def _blocks(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Items in runs of about a million ids, and of one item at least."""
    if len(lengths):
        borders = np.flatnonzero(np.diff(np.cumsum(lengths) // GATHERED)) + 1
        yield from (slice(a, b) for a, b in pairwise([0, *borders.tolist(), len(lengths)]))


def _places(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of all ids of some items, one after the other, and the items' lengths."""
    lengths = ends - starts
    begins = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - begins, lengths), lengths
