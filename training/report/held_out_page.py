"""A held-out page coloured by surprise: how likely the model held each character that came, and what it expected."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.decoding.decoder import Decoder
from model.decoding.rows import Scored
from model.errors import CorpusError
from model.text.frame import START, item_ends
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids, begins_character
from training.report.elements import Markup, element, folded, joined, named, passage, quoted, table

WARM = 1_000  # characters read before the page, after which a state has forgotten that it began with nothing
SEARCHED = 400  # characters after those in which a line is looked for that the page may begin with
ALTERNATIVES = 3  # of each character

LEVELS = (0.5, 1.0, 2.0, 3.0, 4.5, 6.0)  # bits at which a colour gives way to the next, as on the served page
LISTED = 12  # of the most surprising characters
AROUND = (28, 10)  # characters shown before and after each of them

Alternative = tuple[str, float]
"""A character as it can be named, and its probability."""


@dataclass(frozen=True)
class Page:
    """A passage of held-out text with the surprise of each of its characters.

    characters: the text, character by character (n). bits: -log2 of each one's probability, given all before it.
    choices: 1 where it was the likeliest of all, 2 where one was likelier, …; alternatives: the likeliest, in order.
    For a character spelt in bytes bits are of all of them, choice and alternatives of the first.
    before: characters of the validation part that were read before it. where: the arithmetic, in words.
    """

    characters: tuple[str, ...]
    bits: tuple[float, ...]
    choices: tuple[int, ...]
    alternatives: tuple[tuple[Alternative, ...], ...]
    before: int
    where: str

    @property
    def text(self) -> str:
        """The passage."""
        return "".join(self.characters)

    @property
    def mean(self) -> float:
        """Bits per character."""
        return math.fsum(self.bits) / len(self.bits)


def held_out_page(checkpoint: Checkpoint, ids: Ids, characters: int = 3000) -> Page:
    """A page near the beginning of held-out ids (n,), read as the model is served: int8, every id scored.

    About a thousand characters are read before it, fewer where the part is short; it begins with a line where there
    is one nearby. Of a list it shows the first items, each read alone. Raises CorpusError where there is no text.
    """
    ids = np.asarray(ids[: 4 * (WARM + SEARCHED + characters + 1)])  # UTF-8 has four bytes at most
    whole = np.flatnonzero(begins_character(ids))  # where characters begin
    if not len(whole):
        raise CorpusError("The validation part has no text to show; train on a longer corpus.")
    if checkpoint.tokenizer.frame.items:
        return _page_of_items(checkpoint, ids[: int(whole[min(characters, len(whole) - 1)])])
    first = _begin(ids, whole, checkpoint.tokenizer.start_id, characters)
    ends = np.append(whole, len(ids))[first : first + characters + 1]  # of the page's characters, and one more
    start, stop = int(ends[0]), int(ends[-1])
    decoder = Decoder(checkpoint)
    rows = decoder.rows(1)
    following = ids[:stop].astype(np.int32)
    read = np.concatenate([[checkpoint.tokenizer.start_id], following[:-1]]).astype(np.int32)
    rows.read([0], read[None, :start])
    scored = rows.score([0], read[None, start:], following[None, start:], ALTERNATIVES)
    return _page(checkpoint, ids[start:stop], scored, first, decoder.where)


def _page_of_items(checkpoint: Checkpoint, ids: Ids) -> Page:
    """The items that end within some ids, each from the zero state; the first in any case."""
    separator = checkpoint.tokenizer.encode(checkpoint.tokenizer.frame.separator).tolist()
    ends = item_ends(ids, separator).tolist() or [len(ids)]
    decoder = Decoder(checkpoint)
    scores: list[Scored] = []
    for begin, end in pairwise([0, *ends]):
        following = ids[begin:end].astype(np.int32)
        read = np.concatenate([[START], following[:-1]]).astype(np.int32)
        scores.append(decoder.rows(1).score([0], read[None], following[None], ALTERNATIVES))
    parts: list[Any] = [None if part[0] is None else np.concatenate(part, axis=1) for part in zip(*scores, strict=True)]
    return _page(checkpoint, ids[: ends[-1]], Scored(*parts), 0, decoder.where)


def _page(checkpoint: Checkpoint, ids: Ids, scored: Scored, before: int, where: str) -> Page:
    """The page of some ids (n,), that begin with a character, and their scores (1, n)."""
    assert scored.ranks is not None
    assert scored.top_ids is not None
    assert scored.top_logprobs is not None
    places = np.flatnonzero(begins_character(ids))
    ends = np.append(places, len(ids))
    bits = np.add.reduceat(scored.logprobs[0].astype(np.float64), places) / -math.log(2)
    return Page(
        characters=tuple(checkpoint.tokenizer.decode(ids[a:b].tolist()) for a, b in pairwise(ends.tolist())),
        bits=tuple(bits.clip(min=0).tolist()),
        choices=tuple((scored.ranks[0, places] + 1).tolist()),
        alternatives=_alternatives(checkpoint.tokenizer, scored.top_ids[0, places], scored.top_logprobs[0, places]),
        before=before,
        where=where,
    )


def _alternatives(
    tokenizer: Tokenizer, ids: NDArray[np.int32], logprobs: NDArray[np.float32]
) -> tuple[tuple[Alternative, ...], ...]:
    """The likeliest of each character by name, from their ids and log-probabilities (n, N)."""
    probabilities = np.exp(logprobs.astype(np.float64)).clip(max=1)
    return tuple(
        tuple((named(tokenizer.piece(token)), share) for token, share in zip(*one, strict=True))
        for one in zip(ids.tolist(), probabilities.tolist(), strict=True)
    )


def _begin(ids: Ids, whole: Ids, line_break: int, characters: int) -> int:
    """Which of the characters, that begin at `whole`, the page begins with."""
    earliest = min(WARM, max(0, len(whole) - characters))
    kinds = ids[whole[earliest : earliest + SEARCHED]] == line_break
    after = np.flatnonzero(kinds[:-1] & ~kinds[1:])  # line breaks that something other follows
    return earliest + int(after[0]) + 1 if earliest and len(after) else earliest


def page_section(page: Page, part_bits: float | None = None) -> Markup:
    """The page with its legend and its most surprising characters. part_bits: of the whole part, to compare with."""
    count = len(page.characters)
    right = sum(choice == 1 for choice in page.choices) / count
    whole = "" if part_bits is None else f" (the whole part: {part_bits:.3f})"
    words = (
        f"{count:,} characters of the validation part, which the network never learnt from, read as it is served "
        f"({page.where}) after the {page.before:,} characters before them. On average {page.mean:.3f} bits per "
        f"character{whole}; {right:.0%} of the characters were the likeliest in the model's eyes. Colour is surprise: "
        "a bit more is a probability half as high. Point at a character, or tap it, for its bits, which choice it was, "
        "and what the model held likeliest."
    )
    marks = [_mark(*one) for one in zip(page.characters, page.bits, page.choices, page.alternatives, strict=True)]
    return joined(
        [element("p", words), _legend(page), passage(*marks, style="text surprise"), _most_surprising(page)], "\n"
    )


def level(bits: float) -> int:
    """The number of the colour for that surprise in bits, 0 for the least."""
    return bisect_right(LEVELS, bits)


def _mark(character: str, bits: float, choice: int, alternatives: Sequence[Alternative]) -> Markup:
    style = f"l{level(bits)}" + (" br" if character == "\n" else "")
    title = f"{bits:.2f} bits, choice {choice:,}; likeliest: {_likeliest(alternatives)}"
    return element("span", character, class_=style, title=title)


def _likeliest(alternatives: Sequence[Alternative]) -> str:
    return ", ".join(f"{name} {_share(probability)}" for name, probability in alternatives)


def _share(probability: float) -> str:
    return f"{probability:.0%}" if probability >= 0.01 else "<1%"


def _legend(page: Page) -> Markup:
    """The colours, and the share of the page that has each."""
    bounds = [0.0, *LEVELS]
    counts = [0] * len(bounds)
    for bits in page.bits:
        counts[level(bits)] += 1
    items = []
    for at, least in enumerate(bounds):
        words = f"{least:g} and more" if at == len(LEVELS) else f"{least:g} to {LEVELS[at]:g}"
        swatch = element("span", "abc", class_=f"l{at}", aria_hidden="true")
        items.append(element("li", swatch, f" {words} bits: {counts[at] / len(page.bits):.0%}"))
    return element("ul", *items, class_="legend")


def _most_surprising(page: Page) -> Markup:
    order = sorted(range(len(page.bits)), key=lambda at: (-page.bits[at], at))[:LISTED]
    rows = []
    for at in order:
        before = "".join(page.characters[max(0, at - AROUND[0]) : at])
        after = "".join(page.characters[at + 1 : at + 1 + AROUND[1]])
        own = element("mark", _flat(page.characters[at]))
        context = element("bdi", _flat(before), own, _flat(after), lang="", translate="no")
        rows.append(
            (context, f"{page.bits[at]:.2f}", f"{page.choices[at]:,}", quoted(_likeliest(page.alternatives[at])))
        )
    head = ("character in its place", "bits", "choice", "held likeliest")
    return folded(f"The {len(order)} most surprising characters", table(head, rows))


def _flat(text: str) -> str:
    return text.replace("\n", "⏎")
