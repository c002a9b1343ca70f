"""What a run was worth: its best checkpoint measured on held-out text, cards and curves written."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import Checkpoint, load, save
from model.errors import TrainingError
from model.network import Network, from_tensors
from model.surprise import NAME, HeldOutSurprise
from model.tokenizer import Ids
from training.config import TrainingConfig
from training.corpus import CorpusFacts
from training.evaluate import LANE, WINDOW, Reader, Score, carried, network_reader
from training.report import CURVES, card, draw_curves
from training.split import Split
from training.surprise import held_out_surprise
from training.trainer import Trainer

SHARE = 0.1  # of a budget in minutes that the figures at the end may take
SURPRISE_SHARE = 0.02  # of a budget in minutes that the distribution of the validation part's surprise may take
SECONDS_IN_A_HURRY = 2.0  # for that distribution, after a run that was stopped early
IN_A_HURRY = 1 << 16  # ids of each part scored after a run that was stopped early: somebody waits for it to end

Figures = dict[str, Score]


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint comes from, in the words of its card."""

    facts: CorpusFacts
    scheme: str
    config: TrainingConfig
    machine: str
    command: str


def final_scores(config: TrainingConfig, parts: Split, device: torch.device) -> tuple[int, float]:
    """How many ids of validation and of test to score at the end, and the seconds to keep for it.

    All of them, unless that would take more than a tenth of a budget in minutes on this machine, which is measured.
    """
    longest = max(len(parts.validation), len(parts.test))
    if config.minutes is None:
        return longest, 0.0
    read = network_reader(Network(config.network).to(device))
    piece = parts.validation[: WINDOW * 16]
    lanes = min(16, max(1, longest // LANE))
    start = time.perf_counter()
    carried(read, piece, lanes)
    carried(read, piece, lanes)
    per_id = (time.perf_counter() - start) / (2 * len(piece))
    most = int(SHARE * config.minutes * 60 / per_id / 2)
    scored = min(longest, max(most, 4 * WINDOW))
    return scored, 2.0 + 2 * scored * per_id + SURPRISE_SHARE * config.minutes * 60


def leave_results(trainer: Trainer, origin: Origin, scored: int) -> Figures:
    """Measure `best`, give it and `last` their cards, and draw the curves; the figures of `best`.

    scored: ids of each part at most. Raises TrainingError when the disk refuses.
    """
    outcome = trainer.outcome
    if outcome.stopped_early:
        scored = min(scored, IN_A_HURRY)
    best = load(trainer.folder / "best")
    read = network_reader(from_tensors(best.config, best.tensors).to(trainer.device))
    validation, test = (_score(read, part, scored) for part in (trainer.split.validation, trainer.split.test))
    figures = {"validation": validation, "test": test, "validation and test": validation + test}
    described = {part: score.to_json() for part, score in figures.items()}
    checked = load(trainer.folder / "last").training["validation"]
    of_last = described if outcome.best_step == outcome.checks[-1].step else {"validation": checked}
    surprise = _surprise(trainer, best)
    for name, step, scores in (("best", outcome.best_step, described), ("last", outcome.checks[-1].step, of_last)):
        _write_card(trainer, origin, name, step, scores, surprise if step == outcome.best_step else None)
    try:
        draw_curves(outcome.checks, trainer.folder / CURVES)
    except OSError as error:
        message = f"The curves could not be written to {trainer.folder} ({error.strerror}); the checkpoints were."
        raise TrainingError(message) from error
    return figures


def _score(read: Reader, part: Ids, most: int) -> Score:
    score = carried(read, part[:most])
    which = "" if len(part) <= most else f" over the first {most:,} ids of the part"
    return replace(score, protocol=f"{score.protocol}, network in fp32{which}")


def _surprise(trainer: Trainer, best: Checkpoint) -> HeldOutSurprise | None:
    """How surprising the validation part is to the best checkpoint, measured in the time there is for it."""
    minutes = trainer.config.minutes
    seconds = None if minutes is None else SURPRISE_SHARE * minutes * 60
    if trainer.outcome.stopped_early:
        seconds = min(SECONDS_IN_A_HURRY, seconds or SECONDS_IN_A_HURRY)
    return held_out_surprise(best, trainer.split.validation, seconds)


def _write_card(
    trainer: Trainer,
    origin: Origin,
    name: str,
    step: int,
    figures: dict[str, Any],
    surprise: HeldOutSurprise | None,
) -> None:
    """Write a checkpoint again, its card and `training` table complete."""
    outcome, facts = trainer.outcome, origin.facts
    check = next(check for check in outcome.checks if check.step == step)
    training: dict[str, Any] = {
        "name": trainer.folder.resolve().name,
        "corpus": {
            "files": [Path(file).name for file in facts.names[:20]],
            "characters": facts.characters,
            "encoding": facts.encoding,
            "sha256": facts.sha256,
        },
        "split": origin.scheme,
        "plan": origin.config.to_json(),
        "figures": figures,
        "steps": step,
        "characters_read": check.characters,
        "seconds": round(time.monotonic() - trainer.started, 1),
        "machine": origin.machine,
        "command": origin.command,
    }
    if surprise is not None:
        training[NAME] = surprise.to_json()
    checkpoint = load(trainer.folder / name)
    described = replace(checkpoint, training=training, card=card(checkpoint.config, training))
    save(described, trainer.folder / name, trainer.precision)
