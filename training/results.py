"""The results of a run: its best checkpoint measured on held-out text, and its card, curves and report."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.checkpoint import Checkpoint, load, save
from model.command_line.terminal import in_a_line, shell_word
from model.decoding.decoder import Decoder
from model.errors import CheckpointError, TrainingError
from model.files import replace_file
from model.held_out_surprise import NAME, HeldOutSurprise
from model.memory import UNLIMITED
from model.network import Network, from_tensors
from model.online_memory.weights import NAME as MEMORY
from model.online_memory.weights import MemoryWeights
from model.text.utf8_ids import Ids
from training.data.corpus import CorpusFacts
from training.data.prepared_corpus import release
from training.data.split import Split
from training.evaluation.calibration import MOST_IDS, fit_temperature, scale_output
from training.evaluation.measure_surprise import held_out_surprise
from training.evaluation.memorisation import Copied, copied, describe, draw, in_text
from training.evaluation.network_reader import network_reader
from training.evaluation.online_memory import fit_memory
from training.evaluation.protocols import SHORTEST_SEQUENCE, WINDOW, alone, carried, cold_parts
from training.evaluation.readers import Reader
from training.evaluation.score import Score
from training.loop.finished_run import FinishedRun
from training.planning.config import TrainingConfig
from training.report.card import card
from training.report.curves import CURVES, curves_svg
from training.report.diagnosis import verdict
from training.report.held_out_page import held_out_page
from training.report.report import REPORT, ReportData, write_report
from training.report.sample_texts import CopiedText

# Shares of a budget in minutes that the end of a run may take: to score both parts with the state carried, to score
# cold windows, to measure how surprising passages are, and to fit the weights of the online memory.
SHARE, COLD_SHARE, SURPRISE_SHARE, MEMORY_SHARE = 0.02, 0.01, 0.005, 0.005
FITTING = 4  # readings of the fitted text until its temperature is found, and one that learns nothing
REPORTING = 3.0  # seconds: what was copied, a held-out page, cards, curves and report
IN_A_HURRY = 1 << 16  # ids of each part scored after a run that was stopped early: a user waits for it to end
SURPRISED = 1 << 20  # ids of the validation part among which passages are sought
SECONDS_IN_A_HURRY = 2.0  # for cold windows and for surprise, each

FITTED = "temperature"  # in a checkpoint's `training` table: what its logits were divided by
OF_BEST_ALONE = ("copied", "notes", FITTED, MEMORY)  # what the `training` table of `best` has beside

NONE_HELD_OUT = (
    "The items are so few that none is held out: all figures are of the items the network learnt from, and say nothing "
    "of new ones. Read the samples, and see that they are not copies."
)

Figures = dict[str, Score]


@dataclass(frozen=True)
class Provenance:
    """Where a checkpoint comes from, in the words of its card.

    base: the name and the sum of the weights of the checkpoint it was trained on; None where it began with nothing.
    """

    facts: CorpusFacts
    machine: str
    command: str
    base: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Results:
    """The results of a finished run.

    figures: of the best checkpoint, carried and cold, by part and protocol. copied: what a sample copies, in words.
    notes: what a reader should know, in sentences, those on the run's curves included.
    """

    figures: Figures
    copied: str
    notes: Sequence[str]


def final_scores(config: TrainingConfig, parts: Split, device: torch.device) -> tuple[int, float]:
    """How many ids of validation and of test to score at the end, and the seconds to keep for it.

    All of them, unless that would take more than its share of a budget in minutes on this machine, which is measured.
    """
    longest = max(len(parts.validation), len(parts.test))
    if config.minutes is None:
        return longest, 0.0
    read = network_reader(Network(config.network).to(device), threads=config.threads)
    piece = parts.validation[: WINDOW * 16]
    batch_size = min(16, max(1, longest // SHORTEST_SEQUENCE))
    carried(read, piece, batch_size)
    start = time.perf_counter()
    carried(read, piece, batch_size)
    per_id = (time.perf_counter() - start) / len(piece)
    budget = config.minutes * 60
    scored = min(longest, max(int(SHARE * budget / per_id / 2), 4 * WINDOW))
    fitted = FITTING * min(scored, MOST_IDS, len(parts.validation)) if config.fit_temperature else 0
    seconds = (2 * scored + fitted) * per_id + (COLD_SHARE + SURPRISE_SHARE + MEMORY_SHARE) * budget
    return scored, min(seconds + REPORTING, 0.5 * budget)


def leave_results(run: FinishedRun, provenance: Provenance, scored: int) -> Results:
    """Measure `best`, give it and `last` their cards, and write curves and report.

    scored: ids of each part at most. Raises TrainingError when the disk refuses.
    """
    if run.stopped_early:
        scored = min(scored, IN_A_HURRY)
    best = _calibrated(run, load(run.folder / "best", UNLIMITED), scored)
    network = from_tensors(best.config, best.tensors).to(run.device)
    figures = _figures(run, network_reader(network, threads=run.threads), scored)
    described = {part: score.to_json() for part, score in figures.items()}
    notes = [*run.notes, *verdict(run)]
    if not run.split.held_out:
        notes.insert(0, NONE_HELD_OUT)
    surprise, memory = _surprise(run, best), _memory(run, best)
    sample = draw(Decoder(best), best.tokenizer)
    judged = copied(sample, run.split.train, best.tokenizer)
    of_best = _training(run, provenance, run.best_step, described, surprise)
    training = of_best | {"copied": judged.to_json()} | ({"notes": notes} if notes else {})
    training |= {FITTED: best.training[FITTED]} if FITTED in best.training else {}
    training |= {} if memory is None else {MEMORY: memory.to_json()}
    _write_card(run, "best", best, training)
    _leave_last(run, provenance, best, of_best)
    _leave_pages(run, best, training, _shown(sample, judged, best))
    return Results(figures, _in_words(judged), notes)


def is_measured(run: FinishedRun) -> bool:
    """Whether the results of a complete run are in its checkpoints."""
    try:
        checkpoints = {name: load(run.folder / name, UNLIMITED) for name in ("best", "last")}
    except CheckpointError:
        return False
    return all(_is_final(run, checkpoint) for checkpoint in checkpoints.values()) and _is_fitted(
        run, checkpoints["best"]
    )


def ended_by_an_earlier_version(run: FinishedRun) -> bool:
    """Whether a run without a record of its end is complete all the same: only then are its logits scaled."""
    try:
        return FITTED in load(run.folder / "best", UNLIMITED).training
    except CheckpointError:
        return False


def complete_results(run: FinishedRun, provenance: Provenance, scored: int) -> Results:
    """What is missing of the results of a complete run; what was measured is kept.

    scored: as for `leave_results`. Raises TrainingError when the disk refuses.
    """
    best = load(run.folder / "best", UNLIMITED)
    if not (_is_final(run, best) and _is_fitted(run, best)):
        return leave_results(run, provenance, scored)
    training = dict(best.training)
    of_best = {name: value for name, value in training.items() if name not in OF_BEST_ALONE}
    _leave_last(run, provenance, best, of_best)
    sample = draw(Decoder(best), best.tokenizer)
    judged = copied(sample, run.split.train, best.tokenizer)
    _leave_pages(run, best, training, _shown(sample, judged, best))
    figures = {part: Score.from_json(values) for part, values in training["figures"].items()}
    return Results(figures, _in_words(judged), training.get("notes", []))


def _is_final(run: FinishedRun, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has the card that it gets when its run ends, not that of an earlier stop."""
    return bool(checkpoint.training.get("seconds") == round(run.elapsed, 1))


def _is_fitted(run: FinishedRun, best: Checkpoint) -> bool:
    return FITTED in best.training or not run.config.fit_temperature


def _leave_last(run: FinishedRun, provenance: Provenance, best: Checkpoint, of_best: dict[str, Any]) -> None:
    """Give `last` its card. of_best: the `training` table where `best` is `last`."""
    if run.best_is_last:
        _write_card(run, "last", best, of_best)
        return
    last = load(run.folder / "last", UNLIMITED)
    of_last = last.training.get("figures") or {"validation": last.training["validation"]}
    _write_card(run, "last", last, _training(run, provenance, run.validations[-1].step, of_last, None))


def _leave_pages(run: FinishedRun, best: Checkpoint, training: dict[str, Any], shown: CopiedText) -> None:
    """Write curves and report."""
    for part in (run.split.train, run.split.validation, run.split.test):
        release(part)
    data = ReportData(
        name=training["name"],
        network=best.config,
        training=training,
        validations=[asdict(validation) for validation in run.validations],
        page=held_out_page(best, run.split.validation),
        copied=shown,
        notes=training.get("notes", []),
        checkpoint=shell_word(run.folder / "best"),
        held_out=bool(run.split.held_out),
    )
    _draw(run, data)


def _calibrated(run: FinishedRun, best: Checkpoint, scored: int) -> Checkpoint:
    """The checkpoint with its logits scaled to predict the validation part best, where the run is complete."""
    if not run.config.fit_temperature or run.stopped_early or FITTED in best.training:
        return best
    network = from_tensors(best.config, best.tensors).to(run.device)
    temperature = _temperature(run, network, scored)
    fitted = {**best.training, FITTED: round(temperature, 4)}
    scaled = scale_output(best.tensors, temperature)
    # Rounded as it will be stored, so that what is measured is what is kept.
    stored = {name: value.astype(run.dtype).astype(np.float32) for name, value in scaled.items()}
    return replace(best, tensors=stored, training=fitted)


def _temperature(run: FinishedRun, network: Network, scored: int) -> float:
    separator, validation = run.split.separator, run.split.validation
    # A list is not cut inside of an item: what is read of it is bounded in any case.
    part = validation if separator else validation[:scored]
    return fit_temperature(network, part, threads=run.threads, separator=separator)


def _figures(run: FinishedRun, read: Reader, scored: int) -> Figures:
    """Carried and cold scores of validation, test and both; of lists the score of items alone."""
    parts = {"validation": run.split.validation, "test": run.split.test}
    figures = {name: _score(read, part, scored, run.split.separator) for name, part in parts.items()}
    figures["validation and test"] = figures["validation"] + figures["test"]
    if run.split.separator:
        return figures
    seconds = None if run.config.minutes is None else COLD_SHARE * run.config.minutes * 60
    if run.stopped_early or seconds is None:
        seconds = SECONDS_IN_A_HURRY
    cold = cold_parts(read, parts, seconds)
    return figures | {f"{name}, cold": score for name, score in cold.items()}


def _score(read: Reader, part: Ids, most: int, separator: tuple[int, ...]) -> Score:
    score = alone(read, part, separator, most) if separator else carried(read, part[:most])
    score = replace(score, scored=None if len(part) <= most else (most, len(part)))
    return replace(score, protocol=f"{score.protocol}, network in fp32{score.stretch}")


def _surprise(run: FinishedRun, best: Checkpoint) -> HeldOutSurprise | None:
    """How surprising the validation part is to the best checkpoint, measured in the time there is for it."""
    return held_out_surprise(best, run.split.validation[:SURPRISED], _seconds(run, SURPRISE_SHARE))


def _memory(run: FinishedRun, best: Checkpoint) -> MemoryWeights | None:
    """The weights of the online memory beside the best checkpoint, fitted in the time there is for it."""
    return fit_memory(best, run.split.validation, _seconds(run, MEMORY_SHARE)) if run.split.held_out else None


def _seconds(run: FinishedRun, share: float) -> float | None:
    """What a share of a budget in minutes is; None for as many as it takes."""
    minutes = run.config.minutes
    seconds = None if minutes is None else share * minutes * 60
    return min(SECONDS_IN_A_HURRY, seconds or SECONDS_IN_A_HURRY) if run.stopped_early else seconds


def _in_words(judged: Copied) -> str:
    return describe(judged, "drawn at temperature 0.8", "train part")


def _shown(sample: Ids, judged: Copied, best: Checkpoint) -> CopiedText:
    text, stretches = in_text(sample, judged.stretches(), best.tokenizer)
    return CopiedText(
        text=text,
        stretches=stretches,
        longest=judged.longest,
        novel=judged.novel,
        sentence=_in_words(judged),
    )


def _draw(run: FinishedRun, data: ReportData) -> None:
    """Write curves and report. Raises TrainingError when the disk refuses; the checkpoints are written before."""
    drawn = curves_svg(data.validations, run.best_step)
    try:
        replace_file(run.folder / CURVES, drawn.encode())
    except OSError as error:
        message = f"The curves could not be written to {run.folder} ({error.strerror}); the checkpoints were."
        raise TrainingError(message) from error
    write_report(data, run.folder / REPORT)


def _training(
    run: FinishedRun, provenance: Provenance, step: int, figures: dict[str, Any], surprise: HeldOutSurprise | None
) -> dict[str, Any]:
    """The `training` table of a checkpoint's config.json."""
    facts = provenance.facts
    training: dict[str, Any] = {
        "name": in_a_line(run.folder.resolve().name),
        "corpus": {
            "files": [in_a_line(Path(file).name) for file in facts.names[:20]],
            "characters": facts.characters,
            "encoding": facts.encoding,
            "sha256": facts.sha256,
        },
        "split": run.split.scheme,
        "plan": run.config.to_json(),
        "figures": figures,
        "steps": step,
        "characters_read": run.validation_at(step).characters,
        "seconds": round(run.elapsed, 1),
        "machine": provenance.machine,
        "command": in_a_line(provenance.command),
    }
    if provenance.base is not None:
        training["trained_on"] = dict(provenance.base)
    if surprise is not None:
        training[NAME] = surprise.to_json()
    return training


def _write_card(run: FinishedRun, name: str, checkpoint: Checkpoint, training: dict[str, Any]) -> None:
    """Write a checkpoint again, its card and `training` table complete."""
    described = replace(checkpoint, training=training, card=card(checkpoint.config, training))
    save(described, run.folder / name, run.dtype)
