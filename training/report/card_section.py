"""The card of a checkpoint as part of a page: what it is, how good, and everything that fixed the run."""

from collections.abc import Iterator, Mapping
from typing import Any

from model.config import NetworkConfig
from model.held_out_surprise import NAME, QUANTILES, HeldOutSurprise
from model.online_memory.weights import NAME as MEMORY
from training.report.elements import Markup, element, facts, folded, joined, number, quoted, table

PRESENTED = {"name", "corpus", "split", "figures", "steps", "characters_read", "seconds", "machine", "command"}
PRESENTED |= {NAME, MEMORY, "copied", "notes"}  # elsewhere on the page


def summary(network: NetworkConfig) -> str:
    """What kind of network it is, in a line."""
    return f"{network.layers} × {network.hidden} {network.cell.upper()}, embedding {network.embedding}"


def card_section(network: NetworkConfig, training: Mapping[str, Any]) -> Markup:
    """The card. training: the `training` table of the checkpoint's config.json; what it lacks is left out."""
    parts = [facts(list(_facts(network, training)))]
    if command := training.get("command"):
        parts += [
            element("p", "Made with"),
            element("pre", str(command), class_="text command", tabindex=0, translate="no"),
        ]
    parts += _figures(training.get("figures", {}))
    surprise = HeldOutSurprise.of(training)
    if surprise is not None:
        parts.append(_surprise(surprise))
    rest = {**network.to_json(), **{name: training[name] for name in training if name not in PRESENTED}}
    settings = [(name.replace("_", " "), quoted(value)) for name, value in _flat(rest)]
    parts.append(folded("Every setting of the run", facts(settings)))
    return joined(parts, "\n")


def _facts(network: NetworkConfig, training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "network", summary(network)
    yield "parameters", number(network.parameters())
    yield "vocabulary", f"{network.vocabulary:,} ids: 256 bytes and {network.vocabulary - 256:,} characters"
    if corpus := training.get("corpus"):
        files = joined([quoted(str(name)) for name in corpus.get("files", [])], ", ")
        rest = f": {number(corpus.get('characters'))} characters, {corpus.get('encoding', 'encoding unknown')}"
        yield "corpus", joined([files, rest])
        if sha256 := corpus.get("sha256"):
            yield "sha256 of the text", element("code", str(sha256))
    if scheme := training.get("split"):
        yield "split", f"{scheme}: first part to train, second to choose the checkpoint, third reported"
    if "characters_read" in training:
        yield (
            "training",
            (
                f"{number(training['characters_read'])} characters in {number(training.get('steps'))} steps, "
                f"{number(training.get('seconds', 0) / 60, '.1f')} minutes"
            ),
        )
    if machine := training.get("machine"):
        yield "machine", str(machine)


def _figures(figures: Mapping[str, Any]) -> list[Markup]:
    if not figures:
        return []
    rows = [
        (
            part,
            number(score.get("characters")),
            number(score.get("bits_per_character"), ".4f"),
            number(score.get("nats_per_character"), ".4f"),
            str(score.get("protocol", "")),
        )
        for part, score in figures.items()
    ]
    words = (
        "Bits are the negative logarithm to base 2 of each character's probability, given those before it that the "
        "protocol lets the network see. The checkpoint was chosen on the validation part alone; the run chose nothing "
        "on the test part."
    )
    return [
        table(("part", "characters", "bits per character", "nats per character", "protocol"), rows),
        element("p", words),
    ]


def _surprise(surprise: HeldOutSurprise) -> Markup:
    shown = [QUANTILES.index(percent) for percent in (5, 25, 50, 75, 95)]
    head = ("characters of a passage", *(f"{QUANTILES[at]} %" for at in shown))
    rows = [
        (f"{length:,}", *(f"{values[at]:.2f}" for at in shown)) for length, values in surprise.lengths.items()
    ]  # fmt: skip
    words = f"Bits per character below which that percentage of the passages lies. Protocol: {surprise.protocol}."
    return folded("How surprising held-out passages were, by length", element("p", words), table(head, rows))


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, those within a table by the names that lead to them."""
    for name, value in values.items():
        named = f"{before}, {name}" if before else name
        if isinstance(value, Mapping):
            yield from _flat(value, named)
        else:
            words = {None: "none", True: "yes", False: "no"}
            yield named, words[value] if value is None or isinstance(value, bool) else str(value)
