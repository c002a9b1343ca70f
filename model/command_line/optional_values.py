"""Options whose value may be left out, such as `--ray [ADDRESS]`, though words that are no value may follow."""

import re
from collections.abc import Collection, Sequence

OPTIONAL = {"--ray": (re.compile(r"auto|local|(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d{1,5}"), "auto")}
"""For each: what a value looks like, and the value where there is none."""


def completed(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """The words of a command line, with the values that were left out. flags: of the command."""
    made: list[str] = []
    for at, word in enumerate(words):
        if word == "--":
            return [*made, *words[at:]]
        value, without = OPTIONAL.get(word, (None, ""))
        if value is None or word not in flags:
            made.append(word)
        elif at + 1 == len(words) or not value.fullmatch(words[at + 1]):
            made.append(f"{word}={without}")
        else:
            made.append(word)
    return made
