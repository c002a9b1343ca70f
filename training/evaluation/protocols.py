"""Evaluation protocols: carried state over the whole text, and cold windows from a zero state."""

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.command_line.terminal import counted
from model.text.frame import START, answer_starts, item_ends
from model.text.utf8_ids import Ids, count_characters
from training.evaluation.readers import Reader
from training.evaluation.score import Score
from training.evaluation.sharing import BY_ONE, Measurement, Sharing, measured

SHORTEST_SEQUENCE = 1 << 14  # ids: each but the first begins without a past, which costs a little
LARGEST_BATCH = 64
WINDOW = 128  # characters read at once: bounds the memory of the logits

FEWEST_ITEMS, MOST_ITEMS, ITEM_IDS = 16, 512, 1 << 13  # items read side by side, and their ids in about

UNCOUNTED = -100  # a target whose nats do not count, as PyTorch's cross_entropy has it

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
    return measured({"": carried_in_pieces(read, ids, 1, batch_size, window)})[""]


def carried_in_pieces(
    read: Reader, ids: Ids, pieces: int, batch_size: int | None = None, window: int = WINDOW
) -> Measurement:
    """The same, in so many pieces at most: each has some of the sequences, which are the same ones for any number."""
    batch_size = max(1, min(batch_size or min(len(ids) // SHORTEST_SEQUENCE, LARGEST_BATCH), (len(ids) - 1) // WINDOW))
    width = (len(ids) - 1) // batch_size
    pieces = min(pieces, batch_size)
    starts, rest = np.arange(batch_size) * width, ids[batch_size * width :]
    text = "one sequence" if batch_size == 1 else f"{batch_size} sequences of {width:,} characters"
    return Measurement(
        [
            partial(_sequences, read, ids, starts[piece::pieces], width, window, rest if last else rest[:0])
            for piece in range(pieces)
            for last in [piece == (batch_size - 1) % pieces]
        ],
        count_characters(ids[1:]),
        f"carried state, {text}",
    )


def _sequences(read: Reader, ids: Ids, starts: NDArray[np.int64], width: int, window: int, rest: Ids) -> float:
    """The nats of some sequences side by side. rest: ids that follow the last of them, the first its last target."""
    total: float = 0.0
    state: Any = None
    for at in range(0, width, window):
        places = starts[:, None] + np.arange(at, min(at + window, width) + 1)
        total, state = _add(read, ids[places], total, state)
    if len(rest) > 1:
        total, _ = _add(read, rest[None, :], total, [part[-1:] for part in state])
    return total


def alone(
    read: Reader, ids: Ids, separator: Sequence[int], most: int | None = None, learn_after: Sequence[int] = ()
) -> Score:
    """Score a list (n,) item by item, each from the zero state to its end, which counts as its last character.

    separator: the ids that end an item. most: only items that begin before so many ids, and the first in any case.
    learn_after: the ids in an item after which it counts; what is before them is read, and its targets are -100.
    Items of like length are read side by side; rows that end leave, so that nothing is padded.
    """
    return measured({"": alone_in_pieces(read, ids, separator, 1, most, learn_after)})[""]


def alone_in_pieces(
    read: Reader,
    ids: Ids,
    separator: Sequence[int],
    pieces: int,
    most: int | None = None,
    learn_after: Sequence[int] = (),
) -> Measurement:
    """The same, in so many pieces: each has some of the items of every length."""
    ends = item_ends(ids, separator)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    if most is not None:
        ends = ends[starts < max(1, most)]
        starts = starts[: len(ends)]
    order = np.argsort(starts - ends, kind="stable")
    counting = answer_starts(ids, starts, ends, tuple(learn_after))
    starts, lengths, first = starts[order], (ends - starts)[order], (counting - starts)[order]
    which = "each item alone, from the zero state to its end"
    which += ", its answer counted" if (first > 0).any() else ""
    own = [slice(piece, None, pieces) for piece in range(pieces)]
    return Measurement(
        [partial(_groups, read, ids, starts[items], lengths[items], first[items]) for items in own],
        _characters(ids, counting, ends),
        f"{which}, {counted(len(ends), 'item')}",
        len(ends),
    )


def _groups(
    read: Reader, ids: Ids, starts: NDArray[np.int64], lengths: NDArray[np.int64], first: NDArray[np.int64]
) -> float:
    """The nats of items, the longest first, so many at a time as are read well side by side; as for `_items`."""
    total, at = 0.0, 0
    while at < len(starts):
        rows = slice(at, at + min(MOST_ITEMS, max(FEWEST_ITEMS, ITEM_IDS // int(lengths[at]))))
        total += _items(read, ids, starts[rows], lengths[rows], first[rows])
        at = rows.stop
    return total


def _characters(ids: Ids, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> int:
    """The characters of some stretches, in ascending order."""
    total = count_characters(ids[: int(ends[-1])]) if len(ends) else 0
    between = zip([0, *ends[:-1].tolist()], starts.tolist(), strict=True) if len(ends) else ()
    return total - sum(count_characters(ids[end:start]) for end, start in between if end < start)


def _items(
    read: Reader, ids: Ids, starts: NDArray[np.int64], lengths: NDArray[np.int64], first: NDArray[np.int64]
) -> float:
    """The nats of some items, the longest first. first: id of each that counts."""
    total, column = 0.0, 0
    state: Any = None
    while (alive := int(np.count_nonzero(lengths > column))) > 0:
        end = min(int(lengths[alive - 1]), column + WINDOW)
        columns = np.arange(column, end)
        following = ids[starts[:alive, None] + columns].astype(np.int64)
        before = ids[starts[:alive, None] + column - 1].astype(np.int64) if column else np.full((alive, 1), START)
        state = None if state is None else [part[:alive] for part in state]
        targets = np.where(columns < first[:alive, None], UNCOUNTED, following)
        nats, state = read(np.concatenate([before, following[:, :-1]], axis=1), targets, state)
        total, column = total + nats, end
    return total


def _add(read: Reader, characters: Ids, total: float, state: Any) -> tuple[float, Any]:
    window = characters.astype(np.int64)
    nats, state = read(window[:, :-1], window[:, 1:], state)
    return total + nats, state


def cold(
    read: Reader,
    ids: Ids,
    windows: int = COLD_WINDOWS,
    length: int = COLD_LENGTH,
    seed: int = COLD_SEED,
    sharing: Sharing = BY_ONE,
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
    batches = [starts[at : at + batch] for at in range(0, len(starts), batch)]
    sums = np.array(sharing.dealt([partial(_cold_batch, read, ids, one, length) for one in batches]))
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
    sharing: Sharing = BY_ONE,
) -> dict[str, Score]:
    """Cold windows of each part, and of all together under the parts' names joined by "and".

    windows: of each part. seconds: for everything; fewer windows are drawn where all would take longer. How many fit
    is measured with a first batch, is at least one batch a part, and stands in the protocol; what fewer windows cost
    in certainty is in the score's standard error. Several processes fit more into the same seconds.
    """
    if seconds is not None:
        longest = max(parts.values(), key=len)
        start = time.perf_counter()
        for _ in range(2):  # the first finds caches cold and memory not yet taken
            begun = time.perf_counter()
            cold(read, longest, COLD_BATCH, seed=seed)
        now = time.perf_counter()
        fitting = int((seconds - (now - start)) / (now - begun) / len(parts) * sharing.count)
        windows = sharing.of_first(partial(min, windows, COLD_BATCH * max(1, fitting)))
    scores = {name: cold(read, part, windows, seed=seed, sharing=sharing) for name, part in parts.items()}
    if len(parts) > 1:
        scores[" and ".join(parts)] = together(list(scores.values()), [len(part) for part in parts.values()])
    return scores
