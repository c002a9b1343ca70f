"""Measures how surprising held-out text is to a model as it is served, passage by passage."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.command_line.terminal import counted
from model.decoding.decoder import Decoder
from model.held_out_surprise import QUANTILES, HeldOutSurprise
from model.text.frame import START, item_ends
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids, begins_character, count_characters
from training.evaluation.sharing import BY_ONE, Sharing

LENGTHS = (4, 8, 16, 32, 64, 128, 256, 1024)  # characters of a passage
PASSAGES = 256  # of each length at most
ENOUGH_LINES = 64  # for passages to begin where lines do
FEWEST = 20  # passages of a length that is kept: fewer have no quantiles worth the name
SIDE_BY_SIDE = 32  # passages read in one batch
MOST_ITEMS, MOST_GROUPS = 2048, 24  # of a list
WINDOW = 64  # ids read at once: bounds the memory of the logits
STRIDE = (math.sqrt(5) - 1) / 2  # of the passages through the text: however many there are, they lie all over it


@dataclass
class Passages:
    """The passages of one length: where each begins and ends in the ids (n, 2), and the bits per character so far."""

    characters: int
    places: NDArray[np.int64]
    bits: list[float] = field(default_factory=list)

    def next(self, batches: int = 1) -> list["Passages"]:
        """Those that are read next, in so many batches at most, none of which is empty."""
        every = range(len(self.bits), len(self.places), SIDE_BY_SIDE)
        return [Passages(self.characters, self.places[at : at + SIDE_BY_SIDE]) for at in every[:batches]]


def held_out_surprise(
    checkpoint: Checkpoint, ids: Ids, seconds: float | None = None, sharing: Sharing = BY_ONE
) -> HeldOutSurprise | None:
    """The distribution over passages of held-out text (n,); None where the text or the time is too short for any.

    Each passage is read as a fresh request is: from a zero state, after a line break, by the int8 decoder; every
    character of it counts, the first included. Passages begin where lines do that are not empty, or anywhere where
    there are few such lines; they may overlap.
    Of a list the passages are its items, each from its beginning to its last character, by length.
    seconds: stop adding passages after so long; None adds as many as there are, up to 256 of each length.
    sharing: the processes that read together.
    """
    if checkpoint.tokenizer.frame.items:
        return _of_items(checkpoint, ids, sharing)
    decoder = Decoder(checkpoint)
    start = time.monotonic()
    every = [Passages(length, _places(checkpoint.tokenizer, ids, length)) for length in LENGTHS]
    for passages in _rounds(every):
        if seconds is not None and sharing.of_first(lambda: time.monotonic() - start) > seconds:
            break
        read = [
            partial(_read, decoder, checkpoint.tokenizer.start_id, ids, one) for one in passages.next(sharing.count)
        ]
        passages.bits += chain.from_iterable(sharing.dealt(read))
    kept = [passages for passages in every if len(passages.bits) >= FEWEST]
    if not kept:
        return None
    lengths = {one.characters: tuple(np.percentile(one.bits, QUANTILES).tolist()) for one in kept}
    most = max(len(one.bits) for one in kept)
    protocol = (
        f"up to {most} passages of the validation part for each length, each cold: from a zero state after a line "
        "break, every character scored, int8 as served"
    )
    return HeldOutSurprise(lengths, protocol)


def _of_items(checkpoint: Checkpoint, ids: Ids, sharing: Sharing) -> HeldOutSurprise | None:
    """The distribution over the items of a list, for groups of like length."""
    tokenizer = checkpoint.tokenizer
    separator = tokenizer.encode(tokenizer.frame.separator).tolist()
    ends = item_ends(ids, separator)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
    places = np.stack([starts, ends - len(separator)], axis=1)[:MOST_ITEMS]
    places = places[places[:, 1] > places[:, 0]]
    if len(places) < FEWEST:
        return None
    places = places[np.argsort(places[:, 1] - places[:, 0], kind="stable")]
    # Not fewer than twice what quantiles need in a group, nor more groups than a checkpoint keeps.
    groups = np.array_split(places, max(1, min(len(places) // (2 * FEWEST), MOST_GROUPS)))
    decoder = Decoder(checkpoint)
    batches = [Passages(1, group).next(len(group)) for group in groups]
    read = sharing.dealt([partial(_read, decoder, START, ids, one) for group in batches for one in group])
    every = chain.from_iterable(read)
    lengths: dict[int, tuple[float, ...]] = {}
    for group in groups:
        bits = list(islice(every, len(group)))
        middle = group[len(group) // 2]
        counts = [count_characters(ids[start:end]) for start, end in group.tolist()]
        lengths[count_characters(ids[middle[0] : middle[1]])] = tuple(
            np.percentile(np.array(bits) / np.maximum(counts, 1), QUANTILES).tolist()
        )
    protocol = (
        f"{counted(len(places), 'item')} of the validation part in groups of like length, each alone from its "
        "beginning to its last character, int8 as served"
    )
    return HeldOutSurprise(dict(sorted(lengths.items())), protocol)


def _rounds(every: list[Passages]) -> Iterator[Passages]:
    """Each length in turn until all its passages are read."""
    while unread := [passages for passages in every if passages.next()]:
        yield from unread


def _places(tokenizer: Tokenizer, ids: Ids, characters: int) -> NDArray[np.int64]:
    """Where passages begin and end, (n, 2), ordered so that the first n are spread over the text for any n."""
    whole = np.append(np.flatnonzero(begins_character(ids)), len(ids))  # where characters begin, and the end
    begins = np.arange(max(0, len(whole) - characters))  # in characters
    if "\n" in tokenizer.characters and len(begins):
        breaks = ids[whole[begins]] == tokenizer.start_id
        lines = np.flatnonzero(breaks[:-1] & ~breaks[1:]) + 1
        begins = lines if len(lines) >= ENOUGH_LINES else begins
    count = len(begins)
    if not count:
        return np.zeros((0, 2), np.int64)
    stride = max(1, int(count * STRIDE))
    while math.gcd(stride, count) > 1:
        stride += 1
    chosen = begins[np.arange(min(count, PASSAGES), dtype=np.int64) * stride % count]
    return np.stack([whole[chosen], whole[chosen + characters]], axis=1)


def _read(decoder: Decoder, start_id: int, ids: Ids, passages: Passages) -> list[float]:
    """Bits per character of passages side by side; those that are spelt in fewer ids wait for the longest."""
    places = passages.places
    lengths = places[:, 1] - places[:, 0]
    at = places[:, :1] + np.arange(int(lengths.max()))
    following = ids[np.minimum(at, places[:, 1:] - 1)].astype(np.int32)
    read = np.concatenate([np.full((len(places), 1), start_id, np.int32), following[:, :-1]], axis=1)
    rows, nats = decoder.rows(len(places)), np.zeros(len(places))
    for begin in range(0, read.shape[1], WINDOW):
        window = slice(begin, begin + WINDOW)
        logprobs = rows.score(range(len(places)), read[:, window], following[:, window]).logprobs.astype(np.float64)
        within = np.arange(begin, begin + logprobs.shape[1]) < lengths[:, None]
        nats -= np.where(within, logprobs, 0).sum(axis=1)
    bits: list[float] = (nats / math.log(2) / passages.characters).tolist()
    return bits
