"""HTML elements, tables and passages of text, escaped where they are put together."""

import html
import math
import re
import unicodedata
from collections.abc import Sequence

Attribute = str | int | float | bool
"""True is an attribute without a value; False leaves it out."""

# What a page cannot hold: NUL and the other C0 controls have pictures at U+2400, of C1 controls and surrogates nothing
# can be shown.
UNFIT = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
UNFIT |= {0x7F: 0x2421} | dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000)], 0xFFFD)
VOID = {"meta", "br"}
NAMES = {"\n": "line break", " ": "space", "\t": "tab", "\r": "carriage return", "\u00a0": "no-break space"}


TAG = re.compile(r"<[^>]*>")
FEW_LINES = 8  # lines from which on there are columns
SHORT_LINE, TINY_LINE = 16, 10  # characters that nearly all of them have at most, and where a phone has three columns


class Markup(str):
    """HTML. Any other string is text, and is escaped where it enters an element."""


def escape(text: str) -> Markup:
    """Text as HTML: no character of it can end an element or an attribute, and each shows as one character.

    Control characters become their pictures; surrogates and C1 controls, which no page may hold, become U+FFFD.
    """
    return Markup(html.escape(text.translate(UNFIT)))


def element(name: str, /, *content: str, **attributes: Attribute) -> Markup:
    """An element around its content, text escaped. An attribute's `_` stands for `-`, one at its end for nothing."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def joined(content: Sequence[str], between: str = "") -> Markup:
    """Pieces one after the other, text escaped."""
    return Markup(between.join(one if isinstance(one, Markup) else escape(one) for one in content))


def passage(*content: str, style: str = "text", scrolls: bool = False) -> Markup:
    """Text of the corpus or the model, its line breaks kept; in columns where its lines are short.

    Its language is unknown (an empty `lang`), so no reader pronounces it as English; its direction is that of its first
    letters. The line break that HTML drops at the beginning of a `pre` is written, so that no other is.
    scrolls: whether it has its own scroll bar where it is long, which the keyboard can reach.
    """
    written = "".join(html.unescape(TAG.sub("", one)) if isinstance(one, Markup) else one for one in content)
    length = _usual_length(written)
    style += " lines" * (length <= SHORT_LINE) + " tiny" * (length <= TINY_LINE)
    text = element("pre", Markup("\n"), *content, class_=style, lang="", dir="auto", translate="no")
    if scrolls:
        return element("div", text, class_="long", tabindex=0, role="region", aria_label="A long text")
    return text


def _usual_length(text: str) -> float:
    """How many characters nearly all lines have at most; infinite where there are too few lines to tell."""
    lengths = sorted(len(line) for line in text.split("\n") if line)
    return lengths[len(lengths) * 95 // 100] if len(lengths) >= FEW_LINES else math.inf


def quoted(text: str) -> Markup:
    """A name or word from outside within a sentence, which may have another writing direction."""
    return element("bdi", text, translate="no")


def folded(summary: str, *content: str, open_: bool = False) -> Markup:
    """Content behind a line that opens it."""
    return element("details", element("summary", summary), *content, open=open_)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table whose first column names its rows; a column is set flush right where all its cells are numbers.

    On a narrow screen each row is a card: every cell carries the name of its column, an empty one is left out.
    """
    flush = [bool(rows) and all(_is_number(row[at]) for row in rows) for at in range(len(head))]
    kinds: list[dict[str, Attribute]] = [{"class_": "number"} if number else {} for number in flush]
    top = [element("th", cell, scope="col", **kind) for cell, kind in zip(head, kinds, strict=True)]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", **kinds[0]),
            *(
                element("td", element("span", cell), data_label=name, **_cell(cell, kind))
                for name, cell, kind in zip(head[1:], row[1:], kinds[1:], strict=True)
            ),
        )
        for row in rows
    ]
    parts = [element("thead", element("tr", *top)), element("tbody", joined(body, "\n"))]
    return element(
        "div", element("table", *parts), class_="scrolls", tabindex=0, role="region", aria_label=_label(head)
    )


def _cell(cell: str, kind: dict[str, Attribute]) -> dict[str, Attribute]:
    return kind if cell else {"class_": "none"}


def facts(rows: Sequence[tuple[str, str]]) -> Markup:
    """Names and what stands for them, one to a line."""
    body = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in rows]
    return element("div", element("table", element("tbody", joined(body, "\n")), class_="facts"), class_="scrolls")


def number(value: object, form: str = ",.0f") -> str:
    """A number in that form, or a dash where there is none or it is not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return "–"
    return format(value, form)


def named(character: str) -> str:
    """A character within a line of text: in quotation marks, or by name where it would show as nothing."""
    if character in NAMES:
        return NAMES[character]
    if len(character) != 1:
        return character
    kind = unicodedata.category(character)
    if kind.startswith("M"):  # combines with the letter before it: here with a dotted circle
        return f"“\u25cc{character}”"
    return f"U+{ord(character):04X}" if kind[0] in "CZ" else f"“{character}”"


def _label(head: Sequence[str]) -> str:
    return "Table of " + ", ".join(name for name in head if name)


def _is_number(cell: str) -> bool:
    digits = "".join(character for character in cell if character not in " ,.%+-–e")
    return digits.isdigit() if digits else bool(cell.strip())
