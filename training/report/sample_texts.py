"""Texts the model wrote: at three temperatures as training went on, and one with what it copied marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.report.curves import MetricsLine
from training.report.elements import Markup, element, folded, joined, number, passage, table

LEAST = 16  # characters of a copied passage that is marked: some three words, which are rarely the same by chance
PREVIEW = 160  # characters of a sample beside the figures of a validation that is not open


@dataclass(frozen=True, kw_only=True)
class CopiedText:
    """A sample and which of it stands in the corpus.

    stretches: [begin, end) of the copied passages of at least `least` characters, in characters of the text, ascending;
    indentation and runs of one character do not count.
    longest: the longest of all. novel: for n characters, the share of the sample's passages of that length that the
    corpus has nowhere. sentence: what it comes to, in words.
    """

    text: str
    stretches: Sequence[tuple[int, int]]
    longest: str
    novel: Mapping[int, float]
    sentence: str
    least: int = LEAST


def samples_section(validations: Sequence[MetricsLine], best_step: int) -> Markup:
    """Every validation's samples behind a line with its figures and the beginning of one, the last open."""
    if not validations:
        return element("p", "The run ended before it was ever validated, so it wrote no samples.")
    words = (
        "What the network wrote at each validation, from nothing, without a prompt. A temperature below 1 sharpens the "
        "distribution it draws from: fewer mistakes, more repetition; at 1 it writes as it learnt."
    )
    every = [
        _samples_of(validation, validation["step"] == best_step, open_=at == len(validations) - 1)
        for at, validation in enumerate(validations)
    ]  # fmt: skip
    return joined([element("p", words), *every], "\n")


def _samples_of(validation: MetricsLine, best: bool, open_: bool) -> Markup:
    figures = (
        f"{number(validation['progress'], '.0%')} · step {number(validation['step'])} · "
        f"{number(validation['validation_bits'], '.3f')} bits{' · best' if best else ''}"
    )
    beginning = " ⏎ ".join(
        line for line in middle_sample(validation["samples"])[: 4 * PREVIEW].split("\n") if line.strip()
    )
    preview = element("span", beginning[:PREVIEW], class_="preview", lang="", dir="auto", translate="no")
    columns = [
        element("figure", element("figcaption", f"temperature {temperature}"), passage(text))
        for temperature, text in validation["samples"].items()
    ]
    told = element("span", element("b", figures), " ", preview, class_="told")
    return folded(told, element("div", *columns, class_="columns"), open_=open_)


def middle_sample(samples: Mapping[str, str]) -> str:
    """The sample that stands for all of a validation: that at the temperature in the middle."""
    texts = list(samples.values())
    return texts[len(texts) // 2] if texts else ""


def copied_section(copied: CopiedText) -> Markup:
    """The sample with what it copied marked, the longest of it, and the shares of what is novel."""
    rows = [(f"{length:,}", f"{share:.1%}") for length, share in copied.novel.items()]
    what = f"of {copied.least:,} characters and more"
    words = (
        f"Marked: passages {what} that stand in the corpus, letter for letter; indentation does not count."
        if copied.stretches
        else f"No passage {what} stands in the corpus, so nothing is marked."
    )
    marked = passage(*_marked(copied.text, copied.stretches), scrolls=True)
    parts = [element("p", copied.sentence), element("p", words), marked]
    if copied.longest:
        parts += [
            element("h3", f"The longest copied passage: {len(copied.longest):,} characters"),
            passage(copied.longest),
        ]
    if rows:
        parts.append(table(("characters of a passage", "not in the corpus"), rows))
    return joined(parts, "\n")


def _marked(text: str, stretches: Sequence[tuple[int, int]]) -> list[str]:
    """The text in pieces, those within a stretch marked, without the white space around them.

    What two stretches share is marked once.
    """
    pieces: list[str] = []
    at = 0
    for begin, end in sorted(stretches):
        begin, end = max(begin, at), min(end, len(text))
        own = text[begin:end]
        begin, end = begin + len(own) - len(own.lstrip()), begin + len(own.rstrip())
        if begin < end:
            title = f"{end - begin:,} characters as in the corpus"
            pieces += [text[at:begin], element("mark", text[begin:end], title=title)]
            at = end
    return [*pieces, text[at:]]
