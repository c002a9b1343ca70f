"""The results of a run: its best checkpoint measured on held-out text, and its card, curves and report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint, load, save
from model.command_line.terminal import in_a_line, shell_word
from model.errors import CheckpointError, TrainingError
from model.files import remedy, replace_file
from model.held_out_surprise import NAME, HeldOutSurprise
from model.memory import UNLIMITED
from model.online_memory.weights import NAME as MEMORY
from model.text.utf8_ids import Ids
from training.data.corpus import CorpusFacts
from training.data.prepared_corpus import release
from training.distributed.ranks import ALONE, Ranks
from training.evaluation.memorisation import Copied, copied, describe, in_text
from training.evaluation.score import Score
from training.items.split import too_few
from training.loop.finished_run import FinishedRun
from training.measurement import FITTED, Figures, draw_sample, measure
from training.report.card import card
from training.report.curves import CURVES, curves_svg
from training.report.diagnosis import verdict
from training.report.held_out_page import held_out_page
from training.report.report import REPORT, ReportData, write_report
from training.report.sample_texts import CopiedText

OF_BEST_ALONE = ("copied", "notes", FITTED, MEMORY)  # what the `training` table of `best` has beside

NONE_HELD_OUT = (
    "The list has {}, so none is held out: all figures are of what the network learnt from, and say nothing of new "
    "items. Read the samples, and see that they are not copies."
)


@dataclass(frozen=True)
class Provenance:
    """Where a checkpoint comes from, in the words of its card.

    base: the name and the sum of the weights of the checkpoint it was trained on; None where it began with nothing.
    teachers: the same of those it learnt from.
    """

    facts: CorpusFacts
    machine: str
    command: str
    base: Mapping[str, str] | None = None
    teachers: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Results:
    """The results of a finished run.

    figures: of the best checkpoint, carried and cold, by part and protocol. copied: what a sample copies, in words.
    notes: what a reader should know, in sentences, those on the run's curves included.
    """

    figures: Figures
    copied: str
    notes: Sequence[str]


def leave_results(run: FinishedRun, provenance: Provenance, scored: int, ranks: Ranks = ALONE) -> Results:
    """Measure `best`, give it and `last` their cards, and write curves and report.

    scored: ids of each part at most. ranks: this process, and the others, which measure with it at the same time.
    Raises TrainingError when the disk refuses, RankLost where one of the others has ended.
    """
    found = measure(run, scored, ranks)
    best, figures = found.best, found.figures
    described = {part: score.to_json() for part, score in figures.items()}
    notes = [*run.notes, *verdict(run)]
    if not run.split.held_out:
        notes.insert(0, NONE_HELD_OUT.format(too_few(run.split.learn_after)))
    judged = copied(found.sample, run.split.train, best.tokenizer)
    of_best = _training(run, provenance, run.best_step, described, found.surprise)
    training = of_best | {"copied": judged.to_json()} | ({"notes": notes} if notes else {})
    training |= {FITTED: best.training[FITTED]} if FITTED in best.training else {}
    training |= {} if found.memory is None else {MEMORY: found.memory.to_json()}
    _write_card(run, "best", best, training)
    _leave_last(run, provenance, best, of_best)
    _leave_pages(run, best, training, _shown(found.sample, judged, best))
    return Results(figures, _in_words(judged), notes)


def is_measured(run: FinishedRun) -> bool:
    """Whether what was measured of a complete run is in its best checkpoint."""
    try:
        best = load(run.folder / "best", UNLIMITED)
    except CheckpointError:
        return False
    return _is_final(run, best) and _is_fitted(run, best)


def has_cards(run: FinishedRun) -> bool:
    """Whether both checkpoints of a complete run that is measured have their cards."""
    try:
        return _is_final(run, load(run.folder / "last", UNLIMITED))
    except CheckpointError:
        return False


def ended_by_an_earlier_version(run: FinishedRun) -> bool:
    """Whether a run without a record of its end is complete all the same: only then are its logits scaled."""
    try:
        return FITTED in load(run.folder / "best", UNLIMITED).training
    except CheckpointError:
        return False


def complete_results(run: FinishedRun, provenance: Provenance) -> Results:
    """What is missing of the results of a complete run that is measured. Raises TrainingError when the disk refuses."""
    best = load(run.folder / "best", UNLIMITED)
    training = dict(best.training)
    of_best = {name: value for name, value in training.items() if name not in OF_BEST_ALONE}
    _leave_last(run, provenance, best, of_best)
    sample = draw_sample(best)
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
        again = f"{remedy(error)}, then `unroll train --resume {shell_word(run.folder)}`"
        message = f"The curves could not be written to {run.folder} ({error.strerror}); the checkpoints were: {again}."
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
    if provenance.teachers:
        training["teachers"] = [dict(one) for one in provenance.teachers]
    if surprise is not None:
        training[NAME] = surprise.to_json()
    return training


def _write_card(run: FinishedRun, name: str, checkpoint: Checkpoint, training: dict[str, Any]) -> None:
    """Write a checkpoint again, its card and `training` table complete."""
    described = replace(checkpoint, training=training, card=card(checkpoint.config, training))
    save(described, run.folder / name, run.dtype)
