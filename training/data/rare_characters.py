"""Which characters are too rare for ids of their own, where a text has very many different ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.text.tokenizer import CharacterCounts

# Below this many different characters, the output layer is not what a step's time goes to.
MANY = 1_000

# How rare a character must be to be spelt in bytes, and the share of the text that may be spelt so. Of code and
# documents that are 0.04 % and nine tenths of the different characters; of Chinese prose it is too much, all are kept.
LADDER = (10, 5, 3, 2)
SHARE = 0.001
# What is worth a word to the user: of Tang poems 20 spells 0.5 % of the text in bytes, and halves 9,728 characters.
LADDER_TO_TRY = (50, 20, *LADDER)
SHARE_TO_TRY = 0.01

PLANNED = "planned 1"  # the name of these rules: raised whenever they would choose otherwise


@dataclass(frozen=True)
class RareCharacters:
    """What became of a corpus's rare characters.

    min_count: occurrences from which on a character has an id; 1 = all have. planned: whether that was the plan's.
    different: characters of the corpus. share: of the text that is spelt in bytes.
    proposed: a min_count that a user may try for a faster run; None where nothing is to be gained.
    """

    min_count: int
    planned: bool = False
    different: int = 0
    share: float = 0.0
    proposed: int | None = None


EACH = RareCharacters(1)
"""Every character has an id."""


def rare_characters(counts: CharacterCounts, min_count: int | None = None, known: str = "") -> RareCharacters:
    """From how many occurrences on a character gets an id: what was chosen, or else what clearly pays.

    By itself only what halves the vocabulary at least, and makes hardly any text longer; else all characters are kept.
    known: characters that have ids in any case.
    """
    occurrences = counts.counts.copy()
    characters, different = int(occurrences.sum()), int(np.count_nonzero(occurrences))
    occurrences[list(map(ord, known))] = 0
    occurring = occurrences[occurrences > 0]
    least = min_count or _halving(occurring, LADDER, SHARE * characters) or 1
    share = int(occurring[occurring < least].sum()) / max(1, characters)
    proposed = (
        _halving(occurring, LADDER_TO_TRY, SHARE_TO_TRY * characters) if least == 1 and min_count is None else None
    )
    return RareCharacters(least, min_count is None and least > 1, different, share, proposed)


def _halving(occurring: NDArray[np.int64], ladder: tuple[int, ...], most: float) -> int | None:
    """The highest step of a ladder at which at most `most` of the text is spelt in bytes, and half of the different
    characters at least; None where there is none."""
    if len(occurring) < MANY:
        return None
    for least in ladder:
        rare = occurring < least
        if int(occurring[rare].sum()) <= most and 2 * np.count_nonzero(rare) >= len(occurring):
            return least
    return None
