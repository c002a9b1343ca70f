"""The characters a model of a plain text reads before an empty prompt, so that a new line begins as in the text."""

from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids, begins_character

KEPT = 256  # characters
SOUGHT = 1 << 16  # ids of the end of the text in which a line break is sought


def context_of(train: Ids, tokenizer: Tokenizer) -> str:
    """The last characters of the train part (n,) up to a line break, which ends them; "" where none is near its end."""
    end = train[-SOUGHT:]
    breaks = (end == tokenizer.start_id).nonzero()[0] if "\n" in tokenizer.characters else []
    if not len(breaks):
        return ""
    end = end[: int(breaks[-1]) + 1]
    begins = begins_character(end).nonzero()[0]
    return tokenizer.decode(end[int(begins[-KEPT:][0]) :].tolist())
