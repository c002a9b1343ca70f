"""What goes to a terminal: text of a corpus, a model or a file's name never steers it."""

import os
import re
import shlex
import sys
from typing import Any

STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls of ASCII and of Latin-1, escape and bell among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks, embeddings, overrides and isolates of direction
    "\u2028\u2029\ufff9-\ufffb\ud800-\udfff]"  # separators, annotations, halves of surrogate pairs
)
"""Characters that a terminal obeys rather than shows; line breaks and tabs are left to it."""

WHITE_SPACE = str.maketrans({"\n": "\u240a", "\t": "\u2409"})
CONTROL_PICTURES, DELETE = 0x2400, 0x7F


def for_terminal(text: str) -> str:
    """A text whose controls are shown and not obeyed: ESC as ␛, a byte that is no UTF-8 as \\xff, most others as �."""
    return STEERING.sub(_shown, text)


def in_a_line(text: str) -> str:
    """The same on one line: a line break as ␊, a tab as ␉."""
    return for_terminal(text).translate(WHITE_SPACE)


def counted(number: int, thing: str) -> str:
    """How many there are of a thing, such as "1 item" or "1,200 items"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def percent(share: float) -> str:
    """A share from 0 to 1 for people, to three digits, such as "33.6 %": neither all nor nothing unless it is."""
    shown = share if share in (0.0, 1.0) else min(max(share, 1e-6), 0.999)
    return f"{100 * shown:.3g} %"


def shell_word(path: object) -> str:
    """A path as a shell reads it back and a terminal shows it: $'…' with escapes where a byte of it cannot be shown."""
    word = str(path)
    if not STEERING.search(word) and "\n" not in word and "\t" not in word:
        return shlex.quote(word)
    return "$'" + "".join(_escaped(character) for character in word) + "'"


def _shown(match: re.Match[str]) -> str:
    point = ord(match[0])
    if point < 0x20:
        return chr(CONTROL_PICTURES + point)
    if point == DELETE:
        return "\u2421"
    return f"\\x{point - 0xDC00:02x}" if 0xDC80 <= point <= 0xDCFF else "\ufffd"


def _escaped(character: str) -> str:
    if character in "'\\":
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def json_for_terminal(text: str) -> str:
    """JSON that means the same, with what steers a terminal in it written as \\u001b and the like."""
    return STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def drop_output() -> None:
    """Let nobody read standard output any more.

    Python flushes it once more as it exits; where its reader is gone or its disk is full, that would be an error.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def never_fail(*streams: Any) -> None:
    """Let streams write a question mark for a character that their encoding lacks: no run ends over a name."""
    for stream in streams:
        if getattr(stream, "errors", None) == "strict":
            stream.reconfigure(errors="replace")
