"""A corpus cut into train, validation and test parts, contiguous and in that order."""

from dataclasses import dataclass

from model.errors import CorpusError
from model.text.utf8_ids import Ids, begins_character, count_characters
from training.data.split_scheme import DEFAULT, shares_of

SMALLEST = 2_000  # characters: a page, of which 5 % are two lines to validate on


@dataclass(frozen=True)
class Split:
    """The parts of a corpus as ids.

    scheme: "90/5/5" and the like, percentages in that order; or "nanogpt", the first 90 % and the last 10 % as the
    nanoGPT repository cuts Shakespeare, whose first half validates and second half tests.
    separator: the ids that end each item, where the corpus is a list of items. learn_after: the ids in an item after
    which it is learnt and scored; () for all of it.
    held_out: whether train lacks what the others hold; a handful of items is all three.
    """

    scheme: str
    train: Ids
    validation: Ids
    test: Ids
    separator: tuple[int, ...] = ()
    held_out: bool = True
    learn_after: tuple[int, ...] = ()


def split(ids: Ids, scheme: str = DEFAULT) -> Split:
    """Cut ids (n,) by a scheme, never inside a character.

    Raises ParameterError for an unknown scheme, CorpusError for a corpus too small to be cut.
    """
    first, second = shares_of(scheme)
    # A character is spelt in four bytes at most: of a longer corpus this much is enough to know, and to read.
    require_text(count_characters(ids[: 4 * SMALLEST]))
    a, b = _whole(ids, int(len(ids) * first)), _whole(ids, int(len(ids) * second))
    return Split(scheme, ids[:a], ids[a:b], ids[b:])


def require_text(characters: int) -> None:
    """Raise CorpusError where a corpus of so many characters, or any number from `SMALLEST` on, is too small."""
    if characters < SMALLEST:
        raise CorpusError(
            f"The corpus has {characters:,} characters, too few to learn from and be tested on; "
            f"{SMALLEST:,} are enough to start, a million are good."
        )


def _whole(ids: Ids, at: int) -> int:
    """The first position from `at` on that is not inside a character spelt in bytes; the end, where there is none."""
    while not begins_character(ids[at : at + 1]).all():
        at += 1
    return at
