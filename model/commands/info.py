"""The verb `unroll info`: what a checkpoint is, for a terminal or as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from model.command_line.console import TerminalConsole
from model.command_line.from_options import command_of
from model.command_line.options import option
from model.command_line.terminal import in_a_line, shell_word
from model.commands.common import BUNDLED, CHECKPOINT, JSON, MOST_BYTES, note, print_json
from model.memory import DEFAULT_MOST_BYTES, HELP, LoadLimit

LABELLED = 10  # labels that are named
ONLY_WHERE_SET = ("network skip",)  # that many networks do without: no row of a table for a reader


@dataclass(frozen=True, kw_only=True)
class InfoOptions:
    """Every option of `unroll info`, each said once."""

    checkpoint: Path | None = option(None, CHECKPOINT, argument=True, shown=BUNDLED)
    everything: bool = option(False, "Show every value it has.", flag="--all")
    max_model_bytes: int = option(DEFAULT_MOST_BYTES, HELP, typer=MOST_BYTES)
    as_json: bool = option(False, JSON, flag="--json")


def _info(_: typer.Context, options: InfoOptions) -> None:
    """Show what a checkpoint is: its network, its vocabulary, its size, how it was trained and how good it is.

    Examples:

      unroll info

      unroll info runs/book --all

      unroll info runs/book/best --json
    """
    from model.checkpoint import named_checkpoint, read

    folder = named_checkpoint(options.checkpoint)
    stored = read(folder, LoadLimit(most_bytes=options.max_model_bytes))
    facts = describe(stored, folder)
    if stored.note:
        note(stored.note)
    if options.as_json:
        print_json({"model": str(options.checkpoint or "bundled"), **facts})
        return
    if not options.everything:
        show_summary(facts, folder)
        return
    table = Table("name", "value", title=str(folder), show_header=False, title_justify="left")
    table.columns[1].overflow = "fold"
    for name, value in flatten(facts).items():
        if name in ONLY_WHERE_SET and not value:
            continue
        table.add_row(plain(name.replace("_", " ")), plain(value))
    TerminalConsole().print(table)


info = command_of(InfoOptions, _info)


def describe(stored: Any, folder: Path) -> dict[str, Any]:
    """What can be said of a checkpoint as `model.checkpoint.read` gives it, as JSON values."""
    from model.text.utf8_ids import BYTES

    checkpoint, digests = stored.checkpoint, stored.digests
    config, unseen = checkpoint.config, checkpoint.unseen
    return {
        "network": {
            "cell": config.cell,
            "layers": config.layers,
            "hidden": config.hidden,
            "embedding": config.embedding,
            "skip": config.skip,
            **({"attention": config.attention} if config.attention else {}),
            "parameters": config.parameters(),
        },
        "vocabulary": {
            "ids": config.vocabulary,
            "characters": config.vocabulary - BYTES,
            "characters_never_seen": int((unseen >= BYTES).sum()),
            "bytes_seen": BYTES - int((unseen < BYTES).sum()),
        },
        "weights": stored.dtype,
        "bytes_on_disk": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
        "state_bytes_per_stream": 4 * config.state_layout().floats,
        "digest": digests.model,
        "digests": {"weights": digests.weights, "tokenizer": digests.tokenizer, "recorded": digests.recorded},
        **({"texts": texts} if (texts := checkpoint.tokenizer.frame.to_json()) else {}),
        "training": dict(checkpoint.training),
    }


def show_summary(facts: Mapping[str, Any], folder: Path) -> None:
    """Print what can be said in some lines; on a terminal a long value goes on below itself."""
    rows = {"checkpoint": str(folder), **summary(facts), "more": f"unroll info {shell_word(folder)} --all"}
    TerminalConsole().rows([(name, in_a_line(value)) for name, value in rows.items()])


def summary(facts: Mapping[str, Any]) -> dict[str, str]:
    """The same in twelve lines at most, by name; what a checkpoint does not say of its training has none."""
    network, vocabulary, training = facts["network"], facts["vocabulary"], facts["training"]
    skip = ", skip connections" if network["skip"] else ""
    attention = f", attention to {network['attention']} characters" if network.get("attention") else ""
    rows = {
        "network": f"{network['layers']} × {network['hidden']} {network['cell'].upper()}{skip}{attention}, embedding "
        f"{network['embedding']}, {network['parameters']:,} parameters",
        "vocabulary": f"{vocabulary['characters']:,} characters, others in UTF-8 bytes",
        "size": f"digest {facts['digest'][:12]}, {facts['bytes_on_disk'] / 1e6:.1f} MB in {facts['weights']}, "
        f"state {facts['state_bytes_per_stream']:,} bytes",
    }
    texts = facts.get("texts", {})
    if labels := texts.get("labels"):
        more = " …" if len(labels) > LABELLED else ""
        rows["labels"] = f"{len(labels):,}: {', '.join(labels[:LABELLED])}{more}"
    if separator := texts.get("separator"):
        rows["texts"] = f"items, each ends with {json.dumps(separator)}"
    files, characters = within(training, "corpus", "files"), within(training, "corpus", "characters")
    if isinstance(files, list) and files:
        more = f" and {len(files) - 2:,} more" if len(files) > 2 else ""
        rows["corpus"] = (
            f"{', '.join(map(str, files[:2]))}{more}: {plain(characters)} characters, split {training.get('split')}"
        )
    if isinstance(steps := training.get("steps"), int):
        rows["training"] = f"{steps:,} steps, {plain(training.get('characters_read'))} characters read"
    for part in ("validation", "test"):
        if isinstance(bits := within(training, "figures", part, "bits_per_character"), int | float):
            rows[part] = f"{bits:.4f} bits per character{_stretch(training, part)}"
    if isinstance(command := training.get("command"), str):
        rows["command"] = command
    return rows


def _stretch(training: Mapping[str, Any], part: str) -> str:
    """Which ids of a part its figure is of; empty where it is of all."""
    scored, whole = (within(training, "figures", part, name) for name in ("ids_scored", "ids_in_part"))
    return f" over the first {plain(scored)} of {plain(whole)} ids" if scored else ""


def within(values: Any, *names: str) -> Any:
    """What stands in nested tables under some names, one below the other; None where nothing does."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def flatten(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested tables as one, a row per value: {"a": {"b": 1}} is {"a b": 1}."""
    rows: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            rows |= flatten(value, f"{above}{name} ")
        else:
            rows[f"{above}{name}"] = value
    return rows


def plain(value: Any) -> str:
    """A JSON value as a reader likes it: digits in groups."""
    match value:
        case bool() | None:
            return {True: "yes", False: "no", None: "unknown"}[value]
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.6g}"
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)
