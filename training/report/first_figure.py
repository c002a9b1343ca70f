"""The first thing a report shows: one figure in plain words, how to try the model, and a text that it wrote."""

import math
from collections.abc import Mapping
from typing import Any

from model.config import NetworkConfig
from model.text.utf8_ids import BYTES
from training.report.elements import Markup, element, number, passage

PARTS = ("test", "validation")  # whose figure stands first: the one that nothing was chosen on, where there is one
SHOWN = 900  # characters of the sample at most


def first_figure(
    network: NetworkConfig,
    training: Mapping[str, Any],
    sample: str,
    checkpoint: str | None,
    held_out: bool,
) -> Markup:
    """The section. training: the `training` table of the checkpoint's config.json.

    sample: what the best checkpoint wrote, which may be empty. checkpoint: its folder as a word of a shell, for the
    command; None leaves that out. held_out: whether the figures are of text that the network did not learn from.
    """
    part, bits = _figure(training)
    words = element("div", *_in_words(network, part, bits, held_out), *_try(checkpoint))
    parts = [words]
    if sample.strip():
        shown = passage(sample[:SHOWN].strip("\n"))
        parts.append(element("div", element("div", "It writes:", class_="small"), shown, class_="sample"))
    return element("section", *parts, _others(network, training), class_="first", aria_label="The result")


def _figure(training: Mapping[str, Any]) -> tuple[str, float | None]:
    """The part whose figure stands first, and its bits per character; None where the run was not measured."""
    figures = training.get("figures", {})
    for part in PARTS:
        bits = figures.get(part, {}).get("bits_per_character")
        if isinstance(bits, (int, float)) and math.isfinite(bits):
            return part, float(bits)
    return PARTS[0], None


def _in_words(network: NetworkConfig, part: str, bits: float | None, held_out: bool) -> list[Markup]:
    if bits is None:
        return [element("p", "The run ended before its result was measured.", class_="words")]
    where = "text it never learnt from" if held_out else "the text it learnt from"
    known = network.vocabulary - BYTES
    blind = (
        f"Guessing blindly among the {known:,} characters it knows would take {math.log2(known):.2f} bits."
        if known > 1
        else ""
    )
    figure = element("small", f"bits per character on {where} ({part} part)")
    sentence = (
        f"At each character the model is as unsure as if it chose between {2**bits:.1f} equally likely ones. {blind}"
    )
    return [
        element("div", f"{bits:.2f}", figure, class_="figure"),
        element("p", sentence.strip(), class_="words"),
    ]


def _try(checkpoint: str | None) -> list[Markup]:
    if checkpoint is None:
        return []
    command = f"unroll serve {checkpoint} --open"
    return [
        element("p", "Try it:", class_="small"),
        element("pre", command, class_="text command", tabindex=0, translate="no"),
    ]


def _others(network: NetworkConfig, training: Mapping[str, Any]) -> Markup:
    """The next figures, smaller."""
    figures = training.get("figures", {})
    facts = [(part, number(figures[part].get("bits_per_character"), ".4f")) for part in PARTS if part in figures]
    facts += [
        ("parameters", number(network.parameters())),
        ("characters read", number(training.get("characters_read"))),
        ("minutes", number(training.get("seconds", 0) / 60, ".1f")),
    ]
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in facts))
