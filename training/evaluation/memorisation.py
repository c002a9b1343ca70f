"""What a generated text copied from the text its model learnt: the longest passage, and the share of novel n-grams."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.command_line.terminal import counted, percent
from model.decoding.rows import AnyDecoder
from model.errors import ParameterError
from model.sampling.parameters import SamplingParameters
from model.sampling.sampler import RowSampling
from model.text.frame import START, item_ends
from model.text.prompt import Prompt
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids, count_characters
from training.evaluation.suffix_automaton import Agreement

LENGTHS = (8, 16, 32)  # of the n-grams: about a word with its neighbours, a phrase, half a line
CHARACTERS = 10_000  # of a sample: shares of n-grams to about a percent, in a second
TEMPERATURE = 0.8  # as training's own samples are drawn
SHOWN = 200  # characters of the longest passage that a sentence quotes
DRAWN_AT_ONCE = 500  # ids, after which Ctrl-C is heard
SIDE_BY_SIDE = 32  # items
GATHERED = 1 << 20  # ids of the corpus's items that are compared at once


@dataclass(frozen=True)
class Copied:
    """A sample of N ids held against a corpus.

    All lengths and places count ids, which are characters unless one is spelt in UTF-8 bytes: that counts as its 1 to 4
    bytes, and two such characters that share their first bytes agree so far.

    characters: of the sample. longest: of its passages that also stand in the corpus the one with the most ids that
    tell something, then the longest, then the first; cut inside a character spelt in bytes, it has U+FFFD there.
    length: of that passage. begins_in_corpus: where the corpus first has it; None where no character of the sample
    stands in the corpus.
    novel: by n, the share of the sample's N - n + 1 n-grams, of a list those inside of an item, that stand nowhere in
    the corpus, each counted as often as the sample has it; without those n of which the sample has none.
    depth: (N,) for each id the length of the longest passage that ends with it and stands in the corpus. Of a list a
    passage lies inside of one item, without the separator: which items stand side by side says nothing.
    telling: (N,) whether an id tells something, as `_telling` has it.
    items: of a list, how many items the sample has and how many of them are items of the corpus; None of a text.
    """

    characters: int
    longest: str
    length: int
    begins_in_corpus: int | None
    novel: dict[int, float]
    depth: NDArray[np.int32] = field(repr=False, compare=False)
    telling: NDArray[np.bool_] = field(repr=False, compare=False)
    items: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything but the depths."""
        items = {} if self.items is None else dict(zip(("items", "items_in_corpus"), self.items, strict=True))
        return {
            **items,
            "characters": self.characters,
            "longest": self.longest,
            "length": self.length,
            "begins_in_corpus": self.begins_in_corpus,
            "novel": {str(n): share for n, share in self.novel.items()},
        }

    def stretches(self, least: int = 16) -> list[tuple[int, int]]:
        """Passages [start, end) with at least `least` telling ids that stand in the corpus, in the sample's order.

        The longest first, then the longest in what that leaves, and so on: none overlaps another.
        """
        if least < 1:
            raise ParameterError("least", f"least is {least}; a passage has at least 1 character.")
        goes_on = np.append(self.depth[1:] == self.depth[:-1] + 1, False)
        ends = np.flatnonzero(~goes_on & (self.depth >= least)) + 1
        longest_first = [
            (-long, end - long, end) for long, end in zip(self.depth[ends - 1].tolist(), ends.tolist(), strict=True)
        ]
        heapq.heapify(longest_first)
        free = np.ones(len(self.depth), np.bool_)
        found: list[tuple[int, int]] = []
        while longest_first:
            _, start, end = heapq.heappop(longest_first)
            if free[start:end].all():
                found.append((start, end))
                free[start:end] = False
                continue
            for left, right in _runs(free[start:end]):
                if right - left >= least:
                    heapq.heappush(longest_first, (left - right, start + left, start + right))
        return [(start, end) for start, end in sorted(found) if 1 + self.telling[start + 1 : end].sum() >= least]


def _runs(marks: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Where [start, stop) the marks are set without a gap."""
    borders = np.flatnonzero(np.diff(np.concatenate(([0], marks.view(np.int8), [0]))))
    yield from zip(borders[::2].tolist(), borders[1::2].tolist(), strict=True)


def in_text(
    sample: Ids, stretches: Sequence[tuple[int, int]], tokenizer: Tokenizer
) -> tuple[str, list[tuple[int, int]]]:
    """The text of a sample, and where in it its stretches [start, end) lie, in characters.

    stretches: as `Copied.stretches` gives them. A character cut in two by one is U+FFFD on both sides.
    """
    text, places, at = "", [], 0
    for start, end in stretches:
        text += tokenizer.decode(sample[at:start].tolist())
        begin, at = len(text), end
        text += tokenizer.decode(sample[start:end].tolist())
        places.append((begin, len(text)))
    return text + tokenizer.decode(sample[at:].tolist()), places


def copied(sample: Ids, corpus: Ids, tokenizer: Tokenizer, lengths: tuple[int, ...] = LENGTHS) -> Copied:
    """Hold a sample (N,) against a corpus (n,), which is read once, in blocks; it may be a memory map of any size.

    Memory grows with the sample, by some 800 bytes a character. Raises ParameterError where the sample is empty.
    """
    if not len(sample):
        raise ParameterError("characters", "The sample is empty, so it copies nothing; draw or name a longer one.")
    agreement = Agreement(sample)
    agreement.read(corpus)
    room = _room(sample, tokenizer)
    depth = np.minimum(agreement.depths(), room)
    telling = _telling(sample, tokenizer)
    end = int(np.argmax(_told(depth, telling) * (len(sample) + 1) + depth)) + 1
    length = int(depth[end - 1])
    return Copied(
        characters=count_characters(sample),
        longest=tokenizer.decode(sample[end - length : end].tolist()),
        length=length,
        begins_in_corpus=agreement.first(end, length) if length else None,
        novel={n: float(np.mean(depth[room >= n] < n)) for n in lengths if n <= room.max()},
        items=_whole_items(sample, corpus, tokenizer) if tokenizer.frame.items else None,
        depth=depth,
        telling=telling,
    )


def _room(sample: Ids, tokenizer: Tokenizer) -> NDArray[np.int32]:
    """How long a passage that ends with each id (N,) may be: from the sample's start, or from that of its item."""
    places = np.arange(1, len(sample) + 1, dtype=np.int32)
    if not tokenizer.frame.items:
        return places
    separator = tokenizer.encode(tokenizer.frame.separator).tolist()
    ends = item_ends(sample, separator).astype(np.int32)
    before = np.concatenate((np.zeros(1, np.int32), ends))[np.searchsorted(ends, places)]
    room: NDArray[np.int32] = places - before
    for back in range(1, len(separator) + 1):
        room[ends - back] = 0
    return room


def _telling(sample: Ids, tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Which ids (N,) tell something: not white space after white space, nor the third and later of equal ones in a row.

    Indentation and ruled lines are alike in all texts; who writes them copies nothing.
    """
    pieces = (chr(at) if piece is None and at < 0x80 else piece or "" for at, piece in enumerate(tokenizer.pieces))
    white = np.array([piece.isspace() for piece in pieces])[sample]
    again = np.append(False, sample[1:] == sample[:-1])
    telling: NDArray[np.bool_] = ~(white & np.append(False, white[:-1]))
    telling[1:] &= ~(again[1:] & again[:-1])
    return telling


def _told(depth: NDArray[np.int32], telling: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many ids tell something of the longest passage that ends with each (N,); its first always does."""
    before = np.concatenate(([0], np.cumsum(telling, dtype=np.int64)))
    ends = np.arange(1, len(depth) + 1)
    return np.where(depth > 0, 1 + before[ends] - before[np.minimum(ends - depth + 1, ends)], 0)


def _whole_items(sample: Ids, corpus: Ids, tokenizer: Tokenizer) -> tuple[int, int]:
    """How many items a sample has, and how many of them are items of the corpus, too."""
    separator = tokenizer.encode(tokenizer.frame.separator).tolist()
    ends = item_ends(sample, separator).tolist()
    items = [sample[begin:end] for begin, end in pairwise([0, *ends])]
    ends_there = item_ends(corpus, separator)
    lengths_there = np.diff(ends_there, prepend=0)
    found = 0
    for length in sorted({len(item) for item in items}):
        own = np.stack([item for item in items if len(item) == length])
        known = np.zeros(len(own), np.bool_)
        begins = ends_there[lengths_there == length] - length
        for at in range(0, len(begins), max(1, GATHERED // length)):
            there = corpus[begins[at : at + max(1, GATHERED // length), None] + np.arange(length)]
            known |= np.isin(_as_one(own), _as_one(there))
        found += int(known.sum())
    return len(items), found


def _as_one(rows: Ids) -> NDArray[np.void]:
    """Each row (n, L) as one value."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]


def describe(copied: Copied, how: str = "", where: str = "corpus") -> str:
    """A sentence or two for the terminal and the card.

    how: how the sample came about, such as "drawn at temperature 0.8". where: what it was held against.
    """
    of = f"Of {copied.characters:,} characters{' ' if how else ''}{how}"
    if copied.items is not None and copied.items[0]:
        items, known = copied.items
        share = f"{percent(known / items)} stand{'s' * (items == 1)} in the {where} whole"
        of = f"Of {counted(items, 'item')}{' ' if how else ''}{how}, {share}. {of}"
    if copied.length == 0:
        return f"{of}, none stands in the {where}."
    lines = (" ".join(line.split()) for line in copied.longest.split("\n"))
    passage = " ⏎ ".join(line for line in lines if line) or "white space"
    quoted = passage if len(passage) <= SHOWN else passage[:SHOWN] + "…"
    shares = ", ".join(f"{percent(share)} of {n}-grams" for n, share in copied.novel.items())
    return (
        f"{of}, the longest passage that also stands in the {where} has {copied.length:,}: “{quoted}”."
        + f" Novel: {shares}." * bool(shares)
    )


def draw(
    decoder: AnyDecoder,
    tokenizer: Tokenizer,
    characters: int = CHARACTERS,
    temperature: float = TEMPERATURE,
    seed: int = 1,
) -> Ids:
    """Draw one text to be judged, from an empty prompt: (characters,) as `model.generate` would.

    One text and not several side by side: where one of those ends and the next begins, nothing was generated. Of a
    model of items as many whole ones, each with its separator, as give so many ids at least.
    Raises ParameterError on a parameter outside its range.
    """
    if characters < 1:
        raise ParameterError("characters", f"characters is {characters}; draw at least 1.")
    parameters = SamplingParameters(temperature=temperature, seed=seed)
    if tokenizer.frame.items:
        return _draw_items(decoder, tokenizer, characters, parameters)
    prompt = Prompt(tokenizer, decoder.ids, "").ids
    rows = decoder.rows(1)
    rows.read([0], prompt[None, :-1])
    rows.set(0, RowSampling(parameters, decoder.ids, prompt), int(prompt[-1]))
    counts = [min(DRAWN_AT_ONCE, characters - done) for done in range(0, characters, DRAWN_AT_ONCE)]
    return np.concatenate([rows.draw([0], count).ids[0] for count in counts]).astype(tokenizer.dtype)


def _draw_items(decoder: AnyDecoder, tokenizer: Tokenizer, characters: int, parameters: SamplingParameters) -> Ids:
    """Items side by side, a batch after the other; the first ones that have so many ids together."""
    separator = tokenizer.encode(tokenizer.frame.separator)
    drawn: list[Ids] = []
    size = choice = 0
    while size < characters:
        items = _draw_batch(decoder, parameters, choice, characters - size, separator)
        choice += len(items)
        for item in items:
            drawn.append(item)
            size += len(item)
            if size >= characters:
                break
    return np.concatenate(drawn).astype(tokenizer.dtype)


def _draw_batch(
    decoder: AnyDecoder, parameters: SamplingParameters, choice: int, most: int, separator: Ids
) -> list[Ids]:
    """Some items, each with the separator; one that has not ended after so many ids is cut, and given one."""
    count = SIDE_BY_SIDE
    rows = decoder.rows(count)
    for row in range(count):
        sampling = RowSampling(parameters, decoder.ids, np.zeros(0, np.int32), choice + row)
        rows.set(row, sampling, START)
    found: list[Ids | None] = [None] * count
    texts = np.zeros((count, 0), np.int32)
    while texts.shape[1] < most and any(item is None for item in found):
        texts = np.concatenate([texts, rows.draw(range(count), min(DRAWN_AT_ONCE, most - texts.shape[1])).ids], axis=1)
        for row in range(count):
            if found[row] is None and len(ends := item_ends(texts[row], separator.tolist())):
                found[row] = texts[row, : ends[0]]
    return [
        np.concatenate([text, separator]) if item is None else item for item, text in zip(found, texts, strict=True)
    ]
