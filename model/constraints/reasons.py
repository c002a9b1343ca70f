"""Why a constraint cannot be read, in plain sentences, where JSON's parser and llguidance have words of their own."""

import json
import re
from collections.abc import Iterator
from typing import Any

LONGEST_REASON = 300  # characters of an error of llguidance that are told

JSON_REASONS = {
    "Expecting value": "a value is missing",
    "Expecting property name enclosed in double quotes": "a name in double quotes is missing",
    "Expecting ',' delimiter": "a comma or a closing bracket is missing",
    "Expecting ':' delimiter": "a colon is missing",
    "Extra data": "something follows the whole value",
    "Unterminated string starting at": "the string that begins there has no end",
    "Invalid control character at": "a control character in a string is written as it is, not as \\n or \\u0001",
    "Invalid \\escape": "this stands behind no backslash in JSON",
    "Invalid \\uXXXX escape": "four hexadecimal digits are missing",
    "Illegal trailing comma before end of object": "a comma has nothing behind it",
    "Illegal trailing comma before end of array": "a comma has nothing behind it",
    "Unexpected UTF-8 BOM (decode using utf-8-sig)": "a byte-order mark stands before the JSON; leave it out",
}
SCHEMA_REASONS: tuple[tuple[str, str], ...] = (
    (
        r"oneOf constraints",
        "one value may match two parts of a oneOf; give each a required property with another const, or write anyOf",
    ),
    (r"Unimplemented keys: \[(.*)\]", r"it says \1, which is not followed; leave it out, and check the text yourself"),
    (r"Unknown format: (.*)", r"the format \1 is not followed; leave it out, or write a pattern"),
    (
        r"Resource '(.*?)' is not present",
        r"it refers to \1, and nothing is fetched; copy that below $defs",
    ),
    (
        r"min/maxProperties only",
        "minProperties and maxProperties are followed only where every property listed is required; leave them out",
    ),
    (r"regex parse error", "one of its patterns is no regular expression"),
    (r"(?s)Unsatisfiable schema: Regex is empty.*", "no text is valid by its pattern and what stands beside that"),
    (r"(?s).*[Uu]nable to determine if regex is empty.*", "a pattern and what stands beside it are too much together"),
    (r"(?s).*fuel exhausted.*", "its patterns are too much together; write shorter ones"),
    (r"Unsatisfiable schema: (.*)", r"no value is valid: \1"),
    (r"Failed to generate regex for .* range.*", "a bound of a number is too large to be followed; leave it out"),
    (r"Expected \w+ for '(\w+)'.*", r"the value of \1 has the wrong type"),
    (r"Invalid type: (.*)", r"there is no type \1"),
    (r"Pointer '/?(.*)' does not exist", r"it refers to #/\1, which it does not have"),
    (r"circular references.*", "a part of it refers to itself beside other words; write what it means in full"),
    (
        r"patternProperty regexes (.*) and (.*) are not disjoint",
        r"one name may match both \1 and \2; make them exclusive",
    ),
)
LOOKS_AROUND = r'(?:invalid regex ".*" \(in regex\): )?lookarounds not supported yet; (\w+) in regex /.*/'
PLACES = {
    "Star": "^ may stand only where the text begins; leave it out",
    "End": "$ may stand only where the text ends; leave it out",
    "EndL": "$ may stand only where the text ends; leave it out",
    "EndC": "$ may stand only where the text ends; leave it out",
    "Word": "edges of words, such as \\b, are not followed; name the characters that may stand there",
}
"""By the first letters of its names for what takes no characters: `Start`, `EndLF`, `WordUnicode` and the like."""
MADE_PLACE = re.compile(r"at 1\(\d+\): ")  # in the grammar that was made of a pattern
CANNOT_BE = {"json_schema": "is no JSON schema that can be followed"}
BARE = re.compile(r"(?<!\\)(\\\\)*\\\Z")  # a backslash at the end, before nothing

LEAVES_OUT = re.compile(r"""\[\^[^\]]*("|\\\\|\\x22|\\x5[cC]|\\u0022|\\u005[cC])""")
"""A set that all characters but some are in, the quotation mark or the backslash among those."""


def of_json(error: ValueError, source: str) -> str:
    """Where and why a text is no JSON, to stand behind the name of a field."""
    if not isinstance(error, json.JSONDecodeError):
        return f"is no JSON ({str(error).rstrip('.')}); send plain JSON"
    where = "at its end" if error.pos >= len(source) else f"at character {error.pos + 1:,}"
    return f"is no JSON {where}: {JSON_REASONS.get(error.msg, error.msg.lower())}; send plain JSON"


def of_pattern(pattern: str) -> str | None:
    """Why a regular expression is refused before llguidance sees it, which takes this one for a shorter one."""
    if BARE.search(pattern) is None:
        return None
    return f"at character {len(pattern):,}: a backslash stands before nothing; write two for the letter"


def patterns_of(schema: Any) -> Iterator[str]:
    """The patterns of a schema's strings."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and isinstance(one.get("pattern"), str):
            yield one["pattern"]
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def plain_places(error: str) -> str:
    """What llguidance says of a regular expression, with the sign it does not follow named as it is written."""
    return re.sub(LOOKS_AROUND, lambda found: PLACES[found[1][:4]], error, flags=re.DOTALL)


def of_llguidance(kind: str, source: str, error: str) -> str:
    """What llguidance says, to stand behind the name of a field."""
    if kind == "regex" and (found := re.search(r"regex parse error:\n(.*)\nerror: (.+)", error, re.DOTALL)):
        carets = next((line for line in found[1].splitlines() if set(line) <= set(" ^") and "^" in line), "")
        where = f" at character {carets.index('^') - 3:,}" if carets and "\n" not in source else ""
        return f"is no regular expression{where}: {brief(found[2])}; see docs/constraints.md for what it may have"
    what, said = CANNOT_BE.get(kind, "cannot be followed"), brief(MADE_PLACE.sub("", error))
    for known, plain in SCHEMA_REASONS if kind == "json_schema" else ():
        if (found := re.match(known, said)) is not None:
            plain = found.expand(plain).replace('"', "")
            return f"{what}: {plain}"
    return f"{what} ({said}); see docs/constraints.md for what it may have"


def brief(reason: str) -> str:
    """The first line, not too long."""
    line = reason.strip().partition("\n")[0].rstrip(".")
    return line if len(line) <= LONGEST_REASON else line[:LONGEST_REASON] + "…"
