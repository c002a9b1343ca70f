"""The report of a run as one page that needs nothing else: curves, samples, card, held-out text, what was copied."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import NetworkConfig
from model.errors import TrainingError
from model.files import replace_file
from training.report.card_section import card_section, summary
from training.report.curves import MetricsLine, curves
from training.report.elements import Markup, element, joined, quoted
from training.report.first_figure import first_figure
from training.report.held_out_page import Page, page_section
from training.report.sample_texts import CopiedText, copied_section, middle_sample, samples_section
from training.report.style import STYLE

REPORT = "report.html"
ICON = element(
    "svg",
    element("rect", width=32, height=32, rx=8, fill="#b2440f"),
    element(
        "path",
        d="M6 10v8a6 6 0 0 0 12 0v-3a4 4 0 0 1 8 0",
        fill="none",
        stroke="#fff6ea",
        stroke_width="3.4",
        stroke_linecap="round",
    ),
    viewBox="0 0 32 32",
    aria_hidden="true",
)
FLAG = re.compile(r"(`[^`]+`|--[a-z][a-z-]*)")


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What a run's report is made from.

    name: of the run. network: of the best checkpoint. training: its `training` table, as config.json has it.
    validations: the lines of metrics.jsonl, oldest first: `training.monitoring.watcher.Validation` as JSON values.
    page: held-out text with its surprise. copied: a sample held against the corpus. None leaves either out.
    notes: plain sentences on what happened: overfitting, a step back, an early stop, a resumption.
    checkpoint: the folder of the best one, as a word of a shell. held_out: whether any text was kept from learning.
    """

    name: str
    network: NetworkConfig
    training: Mapping[str, Any]
    validations: Sequence[MetricsLine]
    page: Page | None = None
    copied: CopiedText | None = None
    notes: Sequence[str] = ()
    checkpoint: str | None = None
    held_out: bool = True


def write_report(data: ReportData, path: Path) -> None:
    """Write the page, whole or not at all; equal data give equal bytes.

    Raises TrainingError when the disk refuses; a report that was there before then still is.
    """
    try:
        replace_file(path, report(data).encode())
    except OSError as error:
        raise TrainingError(
            f"The report could not be written to {path} ({error.strerror}); the checkpoints were. Free some space, or "
            "let its folder be written to."
        ) from error


def report(data: ReportData) -> str:
    """The page as HTML."""
    sections = list(_sections(data))
    links = [element("li", element("a", title, href=f"#{name}")) for name, title, _ in sections]
    kind = f"A character-level language model trained by Unroll: {summary(data.network)}."
    header = element("header", ICON, element("h1", quoted(data.name)), element("p", kind))
    first = first_figure(data.network, data.training, _best_sample(data), data.checkpoint, data.held_out)
    notes = element("ul", *(element("li", _with_flags(note)) for note in data.notes), class_="notes")
    main = [
        element("section", element("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")
        for name, title, content in sections
    ]
    body = [
        header,
        first,
        *([element("aside", notes, aria_label="Notes")] if data.notes else []),
        element("nav", element("ul", *links), aria_label="Parts of the report"),
        element("main", joined(["", *main, ""], "\n")),
        element("footer", element("p", "The figures of the validations are also in metrics.jsonl beside this page.")),
    ]
    page = element(
        "html",
        head(f"{data.name}: report of a training run"),
        element("body", joined(["", *body, ""], "\n")),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{page}\n"


def _sections(data: ReportData) -> Iterator[tuple[str, str, Markup]]:
    """Id, title and content of each part."""
    best = _best_step(data)
    yield "curves", "Curves", curves(data.validations, best)
    yield "samples", "Samples", samples_section(data.validations, best)
    if data.page is not None:
        validation = data.training.get("figures", {}).get("validation", {})
        yield "page", "A held-out page", page_section(data.page, validation.get("bits_per_character"))
    if data.copied is not None:
        yield "copied", "What was copied", copied_section(data.copied)
    yield "card", "The card", card_section(data.network, data.training)


def _best_sample(data: ReportData) -> str:
    """What the best checkpoint wrote, the longest text there is; nothing where it was never asked."""
    if data.copied is not None:
        return data.copied.text
    best = _best_step(data)
    return next((middle_sample(one["samples"]) for one in data.validations if one["step"] == best), "")


def _with_flags(note: str) -> Markup:
    """A sentence with its commands and flags as code."""
    pieces = FLAG.split(note)  # text and code by turns
    return joined([element("code", piece.strip("`")) if at % 2 else piece for at, piece in enumerate(pieces)])


def _best_step(data: ReportData) -> int:
    """The step of the best checkpoint: what its table says, or else the one with the lowest validation figure."""
    if isinstance(step := data.training.get("steps"), int):
        return step
    return min(data.validations, key=lambda validation: validation["validation_bits"], default={"step": 0})["step"]


def head(title: str) -> Markup:
    """A page's head. Its policy allows no fetches, no scripts and no style but its own; texts may hold HTML."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    parts = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("meta", name_="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(STYLE)),
    ]
    return element("head", joined(["", *parts, ""], "\n"))
