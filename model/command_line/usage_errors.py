"""What a command line has wrong, in our words: the verb or the flag that was likely meant, and what to give."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from model.command_line.terminal import for_terminal

NO_VERB = re.compile(r"No such command '(.*)'\.", re.DOTALL)
IN_OUR_WORDS = (
    (r"Value error, invalid literal for int\(\).*", "give a whole number."),
    (r"Input should be (?:a valid integer|finite).*", "give a whole number."),
    (r"Input should be a valid number.*", "give a number."),
    (r"Input should be greater than or equal to (\S+)", r"give \1 or more."),
    (r"Input should be less than or equal to (\S+)", r"give \1 or less."),
    (r"Value error, ", ""),
)
"""What the library that checks values says of them, and what is said instead."""


def put_right(error: Any, verbs: Sequence[str], as_typed: Callable[[str], str]) -> None:
    """Put the message of an error in such words, if it has one; what it repeats of the line steers no terminal.

    as_typed: gives a sentence the flags that were typed, where those are former names.
    """
    message = getattr(error, "message", None)
    if not isinstance(message, str):
        return
    if nearest := getattr(error, "possibilities", None):
        message, error.possibilities = f"{message}. Did you mean {nearest[0]}?", None
    elif missing := NO_VERB.fullmatch(message):
        near = get_close_matches(missing[1], verbs, n=1)
        message = f"There is no verb {missing[1]!r}; " + (f"did you mean {near[0]}?" if near else _one_of(verbs))
    for pattern, words in IN_OUR_WORDS:
        message = re.sub(pattern, words, message)
    error.message = for_terminal(message)
    if (wrong := getattr(error, "param", None)) is not None:
        error.param_hint = as_typed(wrong.get_error_hint())


def _one_of(verbs: Sequence[str]) -> str:
    return f"choose {', '.join(verbs[:-1])} or {verbs[-1]}."
