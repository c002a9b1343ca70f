"""How likely the ids of a prompt are: their scores on the way from the thread that reads to the client."""

from collections.abc import Callable
from typing import NamedTuple

from model.decoding.rows import Scored, empty_scored


class Slice(NamedTuple):
    """The scores of some ids of a prompt, the first of them its id number `start` ≥ 1; arrays (T,) and (T, N).

    The first id of a prompt has none: nothing stands before it.
    """

    start: int
    scored: Scored


OnScores = Callable[[int, Slice], None]
"""Takes the scores of the prompt with this index as they come, in order, in the event loop's thread."""


class PromptScores:
    """What of a prompt's scores is wanted, and those that are kept.

    top: report ranks, entropies and so many of the likeliest ids; None reports log-probabilities alone.
    on_scores: takes the scores, which are then not kept here, so that a prompt of any length is scored in the memory of
        its ids.
    kept: the scores of all ids but the first, (n - 1,) and (n - 1, N), whole once the prompt is read.
    """

    def __init__(self, length: int, vocabulary: int, top: int | None, on_scores: OnScores | None) -> None:
        self.top = top
        self.on_scores = on_scores
        self.kept = None if on_scores else scores_at(empty_scored(1, length - 1, top, vocabulary), 0, top)

    def keep(self, slice_: Slice) -> None:
        """Enter the scores of some ids; in the thread that reads, which nobody looks at before the prompt is read."""
        assert self.kept is not None
        start = slice_.start - 1
        for kept, part in zip(self.kept, slice_.scored, strict=True):
            if kept is not None and part is not None:
                kept[start : start + len(part)] = part


def scores_at(scored: Scored, row: int, top: int | None) -> Scored:
    """The scores of one row as it asked for them, of several that were scored together."""
    if top is None:
        return Scored(scored.logprobs[row])
    assert scored.ranks is not None
    assert scored.entropies is not None
    assert scored.top_ids is not None
    assert scored.top_logprobs is not None
    tops = scored.top_ids[row, :, :top], scored.top_logprobs[row, :, :top]
    return Scored(scored.logprobs[row], scored.ranks[row], scored.entropies[row], *tops)


def most_wanted(tops: list[int | None]) -> int | None:
    """What to report of rows that are scored together so that each has what it wants."""
    numbers = [top for top in tops if top is not None]
    return max(numbers) if numbers else None
