"""Stop tokens by id: each is a character, so that a stop string of this character ends a text at the same place."""

from collections.abc import Sequence

from model.errors import ParameterError
from model.text.tokenizer import Tokenizer


def stop_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The character of each id, in order; none of them is a byte's.

    Raises ParameterError on an id outside the vocabulary.
    """
    if ids and max(ids) >= tokenizer.size:
        message = f"stop_token_ids has the id {max(ids)}; this model's ids are 0 to {tokenizer.size - 1:,}."
        raise ParameterError("stop_token_ids", message)
    return [tokenizer.decode([one]) for one in ids]


def stop_reason(tokenizer: Tokenizer, stop: Sequence[str], ids: Sequence[int], found: str | None) -> str | int | None:
    """What ended a text, as it was sent: the string, or the id of a text that was sent as an id alone."""
    if found is None or found in stop:
        return found
    return next((one for one in ids if tokenizer.decode([one]) == found), found)
