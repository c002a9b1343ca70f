"""Escapes in what a person types on a command line: \\n is a line break there, as in C and Python."""

import re

ESCAPE = re.compile(
    r"\\(?:([abfnrtv0\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(0010[0-9a-fA-F]{4}|000[0-9a-fA-F]{5}))"
)
MEANT = dict(zip("abfnrtv0\\'\"", "\a\b\f\n\r\t\v\0\\'\"", strict=True))
SURROGATES = range(0xD800, 0xE000)


def unescaped(text: str) -> str:
    """A text with its escapes read: \\n, \\t, \\\\, \\x41, \\u00e9 and the like; what is no escape stays as it is."""
    return ESCAPE.sub(_meant, text)


def _meant(match: re.Match[str]) -> str:
    if match[1] is not None:
        return MEANT[match[1]]
    point = int(match[2] or match[3] or match[4], 16)
    return match[0] if point in SURROGATES else chr(point)
