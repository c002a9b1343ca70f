"""The model card: README.md of a checkpoint."""

import json
from pathlib import Path
from typing import Any

from model.checkpoint import CARD, CONFIG, StoredCheckpoint, read
from model.checkpoint.digests import sealed
from model.checkpoint.saving import config_bytes
from model.config import NetworkConfig
from model.errors import CheckpointError, CorpusError
from model.files import remedy, replace_file
from model.held_out_surprise import NAME, QUANTILES, HeldOutSurprise
from model.memory import UNLIMITED
from model.online_memory.weights import NAME as MEMORY
from model.online_memory.weights import OF_ITEMS, MemoryWeights
from model.text.utf8_ids import Ids
from training.evaluation.measure_surprise import held_out_surprise
from training.evaluation.online_memory import fit_memory


def in_words(plan: dict[str, Any]) -> str:
    """What of a plan keeps a network from learning by heart, as a list; "none"."""
    shares = plan["regularisation"] | {"weight_decay": plan["weight_decay"], "average": plan["average"]}
    chosen = [f"{name.replace('_', ' ')} {share:g}" for name, share in shares.items() if share and share is not True]
    locked = ["one mask a window"] * plan["regularisation"]["locked"]
    return ", ".join(chosen + locked) if chosen else "none"


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
    for one in training.get("teachers", ()):
        trained_on += f"| teacher | {one['name']}, weights of sha256 `{one['sha256']}` |\n"
    if share := training["plan"].get("teacher_share"):
        trained_on += f"| teachers' share | {share:g} of the loss |\n"
    written = f"""# {training["name"]}

A character-level {network.cell.upper()} language model made by Unroll.

| | |
|---|---|
| network | {network.layers} × {network.hidden} {network.cell.upper()}, embedding {network.embedding}\
{", output from every layer" if network.skip else ""}\
{f", attention to {network.attention} characters" if network.attention else ""} |
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


CARD_LINE = "Held-out surprise"


def card_line(surprise: HeldOutSurprise) -> str:
    """The distribution in a line of the card."""
    median = QUANTILES.index(50)
    least, most = QUANTILES.index(5), QUANTILES.index(95)
    figures = "; ".join(
        f"{length:,} characters {values[median]:.2f} ({values[least]:.2f} to {values[most]:.2f})"
        for length, values in surprise.lengths.items()
    )
    return f"{CARD_LINE} in bits per character, median (5 to 95 %): {figures}. Protocol: {surprise.protocol}."


def with_line(card: str, surprise: HeldOutSurprise) -> str:
    """A card with that line at its end, in place of the one it had."""
    kept = [line for line in card.rstrip("\n").split("\n") if not line.startswith(CARD_LINE)]
    return "\n".join(kept).rstrip("\n") + f"\n\n{card_line(surprise)}\n"


def rewrite(folder: Path, ids: Ids) -> HeldOutSurprise:
    """Measure the distribution over held-out ids (n,), and put it into a checkpoint's configuration and card.

    The checkpoint's other files are not touched, and the configuration gets their digests. Raises CorpusError where the
    text is too short, CheckpointError when the disk refuses; each file is then as it was or whole.
    """
    stored = read(folder, UNLIMITED)  # which the caller has loaded
    surprise = held_out_surprise(stored.checkpoint, ids)
    if surprise is None:
        raise CorpusError("The validation part is too short to have passages; name a longer text.")
    try:
        _rewrite_entry(folder, stored, NAME, surprise.to_json())
        card = (folder / CARD).read_text("utf-8") if (folder / CARD).is_file() else ""
        replace_file(folder / CARD, with_line(card, surprise).encode())
    except OSError as error:
        raise _unwritten(folder, error) from error
    return surprise


def rewrite_memory(folder: Path, ids: Ids) -> MemoryWeights:
    """Fit the weights of the online memory on held-out ids (n,), and put them into a checkpoint's configuration.

    Raises as `rewrite` does, also for a list.
    """
    stored = read(folder, UNLIMITED)
    weights = fit_memory(stored.checkpoint, ids)
    if weights is None:
        short = "The validation part is shorter than the 1,024 ids that the online memory needs; name a longer text."
        raise CorpusError(OF_ITEMS if stored.checkpoint.tokenizer.frame.items else short)
    try:
        _rewrite_entry(folder, stored, MEMORY, weights.to_json())
    except OSError as error:
        raise _unwritten(folder, error) from error
    return weights


def _unwritten(folder: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint {folder} could not be written ({error.strerror}), and works as before; {remedy(error)}, and "
        "run the command again."
    )


def _rewrite_entry(folder: Path, stored: StoredCheckpoint, name: str, values: dict[str, Any]) -> None:
    """Put an entry into the `training` table of a stored checkpoint's configuration."""
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    config["training"] = {**(config.get("training") or {}), name: values}
    replace_file(folder / CONFIG, config_bytes(sealed(config, stored.digests.weights, stored.digests.tokenizer)))
