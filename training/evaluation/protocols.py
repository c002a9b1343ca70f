"""Evaluation protocols: carried state over the whole text, and cold windows from a zero state."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.command_line.terminal import counted
from model.text.frame import START, item_ends
from model.text.utf8_ids import Ids, count_characters
from training.evaluation.readers import Reader
from training.evaluation.score import Score

SHORTEST_SEQUENCE = 1 << 14  # ids: each but the first begins without a past, which costs a little
LARGEST_BATCH = 64
WINDOW = 128  # characters read at once: bounds the memory of the logits

FEWEST_ITEMS, MOST_ITEMS, ITEM_IDS = 16, 512, 1 << 13  # items read side by side, and their ids in about

COLD_LENGTH = 256  # characters of a cold window, nanoGPT's context for Shakespeare
COLD_WINDOWS = 200 * 64  # nanoGPT's evaluation: 200 batches of 64 windows
COLD_BATCH = 64
FEWEST_BATCHES = 8  # whose spread the standard error is taken from; fewer windows come in smaller batches
COLD_SEED = 1


def carried(read: Reader, ids: Ids, batch_size: int | None = None, window: int = WINDOW) -> Score:
    """Score a text (n,) in one pass with the state carried; every id but the first is predicted exactly once.

    The text is cut into sequences read side by side, each from a zero state; what the cut leaves over is read on from
    the last one. batch_size: of sequences; None takes as many of 16,384 ids as there are, up to 64. window: ids of each
    given to the reader at once, which is nothing but a matter of memory unless the reader learns between windows.
    """
    batch_size = max(1, min(batch_size or min(len(ids) // SHORTEST_SEQUENCE, LARGEST_BATCH), (len(ids) - 1) // WINDOW))
    width = (len(ids) - 1) // batch_size
    starts = np.arange(batch_size)[:, None] * width
    total: float = 0.0
    state: Any = None
    for at in range(0, width, window):
        places = starts + np.arange(at, min(at + window, width) + 1)
        total, state = _add(read, ids[places], total, state)
    if len(rest := ids[batch_size * width :]) > 1:
        total, _ = _add(read, rest[None, :], total, [part[-1:] for part in state])
    text = "one sequence" if batch_size == 1 else f"{batch_size} sequences of {width:,} characters"
    return Score(total, count_characters(ids[1:]), f"carried state, {text}")


def alone(read: Reader, ids: Ids, separator: Sequence[int], most: int | None = None) -> Score:
    """Score a list (n,) item by item, each from the zero state to its end, which counts as its last character.

    separator: the ids that end an item. most: only items that begin before so many ids, and the first in any case.
    Items of like length are read side by side; rows that end leave, so that nothing is padded.
    """
    ends = item_ends(ids, separator)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    if most is not None:
        ends = ends[starts < max(1, most)]
        starts = starts[: len(ends)]
    order = np.argsort(starts - ends, kind="stable")
    starts, lengths = starts[order], (ends - starts)[order]
    total, at = 0.0, 0
    while at < len(starts):
        rows = slice(at, at + min(MOST_ITEMS, max(FEWEST_ITEMS, ITEM_IDS // int(lengths[at]))))
        total += _items(read, ids, starts[rows], lengths[rows])
        at = rows.stop
    characters = count_characters(ids[: int(ends[-1])]) if len(ends) else 0
    which = "each item alone, from the zero state to its end"
    return Score(total, characters, f"{which}, {counted(len(ends), 'item')}", items=len(ends))


def _items(read: Reader, ids: Ids, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> float:
    """The nats of some items, the longest first."""
    total, column = 0.0, 0
    state: Any = None
    while (alive := int(np.count_nonzero(lengths > column))) > 0:
        end = min(int(lengths[alive - 1]), column + WINDOW)
        targets = ids[starts[:alive, None] + np.arange(column, end)].astype(np.int64)
        first = ids[starts[:alive, None] + column - 1].astype(np.int64) if column else np.full((alive, 1), START)
        state = None if state is None else [part[:alive] for part in state]
        nats, state = read(np.concatenate([first, targets[:, :-1]], axis=1), targets, state)
        total, column = total + nats, end
    return total


def _add(read: Reader, characters: Ids, total: float, state: Any) -> tuple[float, Any]:
    window = characters.astype(np.int64)
    nats, state = read(window[:, :-1], window[:, 1:], state)
    return total + nats, state


def cold(
    read: Reader, ids: Ids, windows: int = COLD_WINDOWS, length: int = COLD_LENGTH, seed: int = COLD_SEED
) -> Score:
    """Score random windows of a text (n,), each from a zero state, every one of its `length` targets alike.

    That is nanoGPT's estimate of a held-out loss (`estimate_loss` and `get_batch` of its train.py): starts are drawn
    with replacement from all n - length. Where a text has no more starts than `windows`, each is read once, which is
    what the drawing tends to; a text of fewer than length + 1 ids has one window, of all of it. Bits and nats are per
    character the targets spell, as everywhere. The standard error is that of the drawing, not of the text: windows of
    a short part overlap.
    """
    length = min(length, len(ids) - 1)
    places = len(ids) - length
    drawn = places > windows
    starts = np.random.default_rng(seed).integers(places, size=windows) if drawn else np.arange(places)
    batch = min(COLD_BATCH, max(1, len(starts) // FEWEST_BATCHES))
    sums = np.array([_cold_batch(read, ids, starts[at : at + batch], length) for at in range(0, len(starts), batch)])
    nats, characters = sums.sum(axis=0)
    # Of a ratio of two sums over independent batches; the last may be smaller, which changes next to nothing.
    residuals = sums[:, 0] - nats / characters * sums[:, 1]
    error = math.sqrt(len(sums) / max(1, len(sums) - 1) * float((residuals**2).sum())) / characters if drawn else None
    which = f"{windows:,} random" if drawn else f"all {places:,}"
    return Score(float(nats), int(characters), f"cold windows of {length}, {which}, zero state", error)


def cold_targets(ids: Ids, windows: int = COLD_WINDOWS, length: int = COLD_LENGTH) -> int:
    """How many ids `cold` predicts."""
    length = min(length, len(ids) - 1)
    return min(windows, len(ids) - length) * length


def _cold_batch(read: Reader, ids: Ids, starts: NDArray[np.int64], length: int) -> tuple[float, int]:
    """The nats of some windows and the characters of their targets."""
    total: float = 0.0
    state: Any = None
    for at in range(0, length, WINDOW):
        places = starts[:, None] + np.arange(at, min(at + WINDOW, length) + 1)
        total, state = _add(read, ids[places], total, state)
    return total, count_characters(ids[starts[:, None] + np.arange(1, length + 1)])


def together(scores: Sequence[Score], ids: Sequence[int]) -> Score:
    """The score of a text whose parts were each sampled: the mean over parts, weighted by their length in ids."""
    characters = sum(score.characters for score in scores)
    shares = [length / sum(ids) for length in ids]
    nats = sum(share * score.nats_per_character for share, score in zip(shares, scores, strict=True))
    errors = [share * (score.standard_error or 0.0) for share, score in zip(shares, scores, strict=True)]
    protocol = "; ".join(dict.fromkeys(score.protocol for score in scores))
    return Score(nats * characters, characters, protocol, math.hypot(*errors) if any(errors) else None)


def cold_parts(
    read: Reader,
    parts: Mapping[str, Ids],
    seconds: float | None = None,
    windows: int = COLD_WINDOWS,
    seed: int = COLD_SEED,
) -> dict[str, Score]:
    """Cold windows of each part, and of all together under the parts' names joined by "and".

    windows: of each part. seconds: for everything; fewer windows are drawn where all would take longer. How many fit
    is measured with a first batch, is at least one batch a part, and stands in the protocol; what fewer windows cost
    in certainty is in the score's standard error.
    """
    if seconds is not None:
        longest = max(parts.values(), key=len)
        start = time.perf_counter()
        for _ in range(2):  # the first finds caches cold and memory not yet taken
            begun = time.perf_counter()
            cold(read, longest, COLD_BATCH, seed=seed)
        now = time.perf_counter()
        fitting = int((seconds - (now - start)) / (now - begun) / len(parts))
        windows = min(windows, COLD_BATCH * max(1, fitting))
    scores = {name: cold(read, part, windows, seed=seed) for name, part in parts.items()}
    if len(parts) > 1:
        scores[" and ".join(parts)] = together(list(scores.values()), [len(part) for part in parts.values()])
    return scores
