"""What a run leaves for its reader: metrics.jsonl, curves.png and the checkpoint's card."""

import json
import math
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from model.config import NetworkConfig
from model.surprise import HeldOutSurprise
from training.saving import Check
from training.surprise import with_line

METRICS, CURVES = "metrics.jsonl", "curves.png"


class MetricsFile:
    """Writes a line of JSON for every validation of a run.

    earlier: the validations before the moment a resumed run goes on from; what the file says beyond them is forgotten.
    """

    def __init__(self, folder: Path, earlier: Sequence[Check] = ()) -> None:
        self.path = folder / METRICS
        best, lines = math.inf, []
        for check in earlier:
            lines.append(_line(check, check.validation_bits < best))
            best = min(best, check.validation_bits)
        self.path.write_text("".join(lines), "utf-8")

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:
        """Nothing: a line per step would be a file as long as the corpus."""

    def checked(self, check: Check, best: bool) -> None:
        """Append one line; it is on disk when this returns. A full disk costs the line, not the run."""
        with suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(check, best))

    def told(self, note: str) -> None:
        """Nothing: the card and the report have what was told."""


def _line(check: Check, best: bool) -> str:
    return json.dumps(asdict(check) | {"best": best}, ensure_ascii=False) + "\n"


def draw_curves(checks: list[Check], path: Path) -> None:
    """Bits per character of train and validation over the characters read, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    read = [check.characters / 1e6 for check in checks]
    axes.plot(read, [check.train_bits for check in checks], label="train, running mean, dropout on")
    axes.plot(read, [check.validation_bits for check in checks], label="validation, carried state", marker=".")
    axes.set_xlabel("million characters read")
    axes.set_ylabel("bits per character")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def machine(device: torch.device) -> str:
    """The device a network is trained on, this machine's cores and PyTorch's version."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return f"{name}, {os.cpu_count()} cores, PyTorch {torch.__version__.split('+')[0]}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def in_words(plan: dict[str, Any]) -> str:
    """What of a plan keeps a network from learning by heart, as a list; "none"."""
    shares = plan["regularisation"] | {"weight_decay": plan["weight_decay"], "average": plan["average"]}
    chosen = [f"{name.replace('_', ' ')} {share:g}" for name, share in shares.items() if share and share is not True]
    flags = ["one mask a window"] * plan["regularisation"]["locked"] + ["tied weights"] * plan["regularisation"]["tied"]
    return ", ".join(chosen + flags if chosen else flags[1:]) or "none"


def card(network: NetworkConfig, training: dict[str, Any]) -> str:
    """The model card: what it is, how good, on which split and protocol, and the command that made it.

    training: the `training` table of the checkpoint's config.json, as run.py composes it.
    """
    corpus, figures = training["corpus"], training["figures"]
    rows = "\n".join(
        f"| {part} | {score['characters']:,} | {score['bits_per_character']:.4f} | {score['nats_per_character']:.4f} |"
        for part, score in figures.items()
    )
    protocols = "\n".join(f"- {part}: {score['protocol']}" for part, score in figures.items())
    base = training.get("trained_on")
    trained_on = f"| trained on | {base['name']}, weights of sha256 `{base['sha256']}` |\n" if base else ""
    written = f"""# {training["name"]}

A character-level {network.cell.upper()} language model made by Unroll.

| | |
|---|---|
| network | {network.layers} × {network.hidden} {network.cell.upper()}, embedding {network.embedding}\
{", output from every layer" if network.skip else ""}{f", zoneout {network.zoneout:g}" if network.zoneout else ""} |
| parameters | {network.parameters():,} |
| vocabulary | {network.vocabulary:,} ids: 256 bytes and {network.vocabulary - 256:,} characters |
| corpus | {", ".join(corpus["files"])}: {corpus["characters"]:,} characters, {corpus["encoding"]} |
| sha256 of the text | `{corpus["sha256"]}` |
| regularisation | {in_words(training["plan"])} |
{trained_on}| split | {training["split"]}: first part to train, second to choose the checkpoint, third reported |
| training | {training["characters_read"]:,} characters in {training["steps"]:,} steps, \
{training["seconds"] / 60:.1f} minutes |
| machine | {training["machine"]} |
| seed | {training["plan"]["seed"]} |

Made with

    {training["command"]}

| part | characters | bits per character | nats per character |
|---|---|---|---|
{rows}

Protocols (each character predicted once from those before it, nothing averaged over runs):

{protocols}

The checkpoint was chosen on the validation part alone. The run chose nothing on the test part.
"""
    surprise = HeldOutSurprise.of(training)
    return written if surprise is None else with_line(written, surprise)
