"""A whole run: prepare the corpus, plan, train, measure the best checkpoint, and leave all of it in a folder."""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from model.checkpoint import Checkpoint, load, named_checkpoint
from model.command_line.console import TerminalConsole
from model.command_line.terminal import in_a_line, shell_word
from model.errors import CorpusError, ParameterError, TrainingError
from model.memory import UNLIMITED
from model.text.chat_format import ChatFormat
from model.text.frame import TextFrame
from training.allocator import keep_buffers
from training.data.batches import Taught
from training.data.named_corpus import open_corpus
from training.data.prepared_corpus import Prepared, count_ids, prepare, spelt
from training.data.split import Split, split
from training.distributed.agreement import agree
from training.distributed.ranks import ALONE, RankLost, Ranks
from training.items.labels import labels_of
from training.items.split import learnt_after, split_items
from training.loop.finished_run import FinishedRun
from training.loop.initial_weights import InitialWeights, fits
from training.loop.joint_start import check_readable, end_of_first, record_of_first
from training.loop.run_record import RunRecord, write_record
from training.loop.run_state import ENDED, FOLDER, RunState, Saved, newest, read_end, write_end
from training.loop.trainer import NothingTrained, Trainer
from training.measurement import final_scores, measure
from training.monitoring.metrics_file import METRICS, MetricsFile
from training.monitoring.speed_watcher import SpeedWatcher
from training.monitoring.terminal import TerminalWatcher
from training.planning.context import context_of
from training.planning.machine import check_precision, choose_device, machine
from training.planning.plan import check_shares, make_plan
from training.planning.run_folder import run_folder
from training.planning.train_options import TrainOptions
from training.report.curves import CURVES
from training.report.report import REPORT
from training.results import (
    Provenance,
    complete_results,
    ended_by_an_earlier_version,
    has_cards,
    is_measured,
    leave_results,
)
from training.signals import stop_on_signals
from training.summary import show_outcome, show_plan
from training.teachers import Teacher, check_teachers, teach, teachers_at, teachers_of

if TYPE_CHECKING:
    from training.monitoring.tensorboard_log import TensorBoardLog


PREPARED = ".prepared"  # beside the runs: the corpora they were trained on, as ids


def run(options: TrainOptions, console: TerminalConsole, started: float, ranks: Ranks = ALONE) -> FinishedRun:
    """Train from a corpus to a run folder.

    started: time.monotonic() at the start of the command, from which a budget in minutes counts.
    ranks: the processes that train together; the first plans, prints and writes.
    Raises CorpusError before anything is trained, TrainingError when a run is lost.
    """
    keep_buffers()
    check_readable(options.corpus, ranks)
    out = Path(ranks.of_first(lambda: os.fspath(run_folder(options))))
    device = choose_device(options.device, ranks.local, ranks.here)
    _calm_kernels(device)
    base = None if options.base is None else load(named_checkpoint(options.base), UNLIMITED)
    teachers = teachers_at(options.teachers)
    chat = _chat(options, base)
    separator = options.separator("" if base is None else base.tokenizer.frame.separator)
    after = options.answers_after("" if base is None else learnt_after(base))
    by_file = options.label == "file-name"
    corpus = open_corpus(options.corpus, options.encoding, options.on_decode_error, separator, by_file)
    extending = None if base is None else base.tokenizer
    with ranks.first_of_machine_first():
        prepared = prepare(corpus, out.parent / PREPARED, min_count=options.min_count, extending=extending)
    prepared = replace(prepared, tokenizer=prepared.tokenizer.framed(TextFrame(separator)))
    parts = _parts(prepared, options.split, base is not None, after)
    frame = replace(_frame(options, prepared, parts, base), chat=chat)
    prepared = replace(prepared, tokenizer=prepared.tokenizer.framed(frame))
    agree(ranks, prepared.facts.sha256, prepared.tokenizer.to_json(), f"{options.split} {len(parts.train)}")
    check_teachers(teachers, prepared.tokenizer, len(parts.train))
    counts = count_ids(parts.train, prepared.tokenizer.size)
    grown = None if base is None else fits(base, prepared.tokenizer)
    plan = make_plan(options.overrides, prepared.tokenizer.size, spelt(counts), device, grown, ranks.count)
    chosen = replace(plan.config, learn_after=after, teacher_share=options.share_of_teachers)
    plan = replace(plan, config=chosen)
    labelled = options.label is not None
    show_plan(console, plan, corpus, prepared, parts, device, ranks.count, teachers, labelled)
    scored, finish = final_scores(plan.config, parts, device, ranks)
    record = RunRecord.of(options, plan, prepared, base)
    kept = tuple(one.kept for one in teachers)
    record = replace(record, scored=scored, finish=finish, job=ranks.job, teachers=kept)
    record = RunRecord.from_json(ranks.of_first(record.to_json))
    before = os.path.lexists(out)
    if ranks.first:
        write_record(out, record, extending)
        _forget_state(out)
    initial_weights = InitialWeights(counts, base, prepared.tokenizer.frame.items)
    try:
        return _train(_Run(out, record, prepared, parts, initial_weights, device, console, started, ranks, teachers))
    except NothingTrained:
        if ranks.first and not before:
            shutil.rmtree(out, ignore_errors=True)
        raise


def resume(out: Path, console: TerminalConsole, started: float, ranks: Ranks = ALONE) -> FinishedRun:
    """Continue a run as if nothing had happened since it was last saved.

    ranks: the processes that train together, of which the first alone needs the folder; they may be more or fewer than
    before. Raises TrainingError where the folder holds no run, the corpus has changed, or the saved state is damaged.
    """
    keep_buffers()
    record, extending = record_of_first(out, ranks)
    saved = newest(out, ranks)
    device = choose_device(record.device, ranks.local, ranks.here)
    _calm_kernels(device)
    check_precision(record.config.network.cell, record.config.precision, device)
    check_shares(record.config.batch_size, ranks.count)
    by_file = record.label == "file-name"
    corpus = open_corpus(record.sources(), record.encoding, record.on_decode_error, record.frame.separator, by_file)
    with ranks.first_of_machine_first():
        prepared = prepare(corpus, out.parent / PREPARED, min_count=record.min_count, extending=extending)
    if prepared.facts.sha256 != record.sha256:
        raise TrainingError(
            f"The corpus of {out} is not the text it was trained on any more; put that back, or train anew."
        )
    prepared = replace(prepared, tokenizer=prepared.tokenizer.framed(record.frame))
    parts = _parts(prepared, record.scheme, record.base is not None, record.config.learn_after)
    agree(ranks, prepared.facts.sha256, prepared.tokenizer.to_json(), record.scheme)
    teachers = teachers_of(record.teachers)
    console.say(f"Resuming {out} on {device.type}.")
    # A saved state replaces the initial weights: then the checkpoint that was trained on may be gone.
    initial_weights = InitialWeights(
        count_ids(parts.train, prepared.tokenizer.size),
        None if saved else record.base_checkpoint(),
        record.frame.items,
    )
    return _train(_Run(out, record, prepared, parts, initial_weights, device, console, started, ranks, teachers), saved)


def _frame(options: TrainOptions, prepared: Prepared, parts: Split, base: Checkpoint | None) -> TextFrame:
    """How texts begin and end: items with their labels and those of the base, one long text after a context."""
    separator = prepared.tokenizer.frame.separator
    if not separator:
        return TextFrame(context=context_of(parts.train, prepared.tokenizer))
    labels = set() if options.label is None else set(labels_of(prepared.ids, prepared.tokenizer))
    labels.update(() if base is None else base.tokenizer.frame.labels)
    try:
        return TextFrame(separator, labels=tuple(sorted(labels)))
    except ValueError as error:
        raise CorpusError(f"The list's labels and those of the checkpoint do not fit together: {error}.") from error


def _chat(options: TrainOptions, base: Checkpoint | None) -> ChatFormat | None:
    """How the model is to chat: as the options say, or as the base does."""
    if options.chat_format is not None:
        return ChatFormat.read(options.chat_format)
    return None if base is None else base.tokenizer.frame.chat


def _parts(prepared: Prepared, scheme: str, based: bool, learn_after: str) -> Split:
    """The parts of a corpus, cut between items where it is a list.

    based: whether a checkpoint is trained on. learn_after: the text in an item after which it is learnt.
    """
    if prepared.tokenizer.frame.items:
        remedy = "choose another --learn-after" + (", or '' to learn all of each item" if based else "")
        return split_items(prepared.ids, scheme, prepared.tokenizer, based, learn_after, remedy)
    if learn_after:
        raise ParameterError("learn_after", "--learn-after is for a list of items; add --items, or leave it out.")
    return split(prepared.ids, scheme)


@dataclass(frozen=True)
class _Run:
    """Everything a run needs, begun or resumed."""

    out: Path
    record: RunRecord
    prepared: Prepared
    parts: Split
    initial_weights: InitialWeights
    device: torch.device
    console: TerminalConsole
    started: float
    ranks: Ranks = ALONE
    teachers: Sequence[Teacher] = ()


def _train(run: _Run, saved: tuple[Saved, Saved] | None = None) -> FinishedRun:
    """Train to the end of the budget and leave the results. saved: what to go on from."""
    record, config, out, console = run.record, run.record.config, run.out, run.console
    scored, finish = record.scored, record.finish
    if scored is None or finish is None:
        scored, finish = final_scores(config, run.parts, run.device, run.ranks)
    end = end_of_first(out, run.ranks)
    trainer = Trainer(
        config,
        run.prepared.tokenizer,
        run.parts,
        out,
        [],
        device=run.device,
        dtype=record.dtype,
        started=run.started,
        finish=finish,
        initial_weights=run.initial_weights,
        ranks=run.ranks,
        taught=None if end is not None else _taught(run),
    )
    provenance = Provenance(
        run.prepared.facts,
        machine(run.device, run.ranks.count),
        shlex.join(record.command),
        record.base_facts(),
        [one.facts() for one in run.teachers],
    )
    if end is not None:
        return _complete(run, trainer.stand_at_end(end), provenance, scored)
    if saved is not None:
        trainer.resume(*saved)
        if run.ranks.of_first(lambda: ended_by_an_earlier_version(trainer.finished())):
            _say_complete(run)
            return trainer.finished()
    if not run.ranks.first:
        return _assist(run, trainer, scored)
    state = trainer.state
    terminal = TerminalWatcher(console, trainer.seconds_left)
    speed = SpeedWatcher(
        out,
        record.resumable,
        record.characters_per_second if run.parts.held_out else None,  # a handful never fills a batch, as planned
        trainer.characters,
        show=trainer.show,
        keep=lambda note: trainer.state.notes.append(note),
    )
    log = _tensorboard(run, state)
    trainer.watchers = [_metrics(run, state), terminal, speed, *([log] if log else [])]
    with stop_on_signals(trainer), _resumable_where_lost(run):
        try:
            with terminal:
                trainer.run()
        except RankLost:
            raise
        except TrainingError:  # the best checkpoint of a lost run is worth measuring, too
            with suppress(RankLost):
                if _is_worth_measuring(run, trainer):
                    leave_results(trainer.finished(), provenance, scored, run.ranks)
            raise
        finally:
            if log:
                log.close()
                if log.ended:
                    trainer.tell(log.ended)
        ended = _ending(trainer, speed)
        console.say("Scoring the best checkpoint …")
        finished = trainer.finished()
        if not finished.stopped_early:
            write_end(out, replace(trainer.state, elapsed=finished.elapsed))
        _is_worth_measuring(run, trainer)
        results = leave_results(finished, provenance, scored, run.ranks)
    show_outcome(console, finished, results, ended, record.resumable)
    return finished


def _taught(run: _Run) -> Taught | None:
    """What the teachers expect of the train part; None without any, or where they have no share."""
    if not run.teachers or not run.record.config.teacher_share:
        return None
    run.console.say("Reading the text with the teachers …")
    return teach(run.teachers, run.parts.train, run.record.config, run.device)


def _assist(run: _Run, trainer: Trainer, scored: int) -> FinishedRun:
    """Train and measure in a process that is not the first, which does the rest by itself."""
    with stop_on_signals(trainer), _resumable_where_lost(run):
        try:
            finished = trainer.run()
        except RankLost:
            raise
        except TrainingError:
            with suppress(RankLost):
                _help_to_measure(run, trainer, scored)
            raise
        _help_to_measure(run, trainer, scored)
        return finished


def _help_to_measure(run: _Run, trainer: Trainer, scored: int) -> None:
    if _is_worth_measuring(run, trainer):
        measure(trainer.finished(), scored, run.ranks)


def _is_worth_measuring(run: _Run, trainer: Trainer) -> bool:
    """Whether there is a checkpoint to measure, as the first process tells the others when training has ended."""
    return bool(run.ranks.of_first(lambda: bool(trainer.state.validations) and not trainer.unsaved))


@contextmanager
def _resumable_where_lost(run: _Run) -> Iterator[None]:
    """Say how to go on where another process has ended."""
    try:
        yield
    except RankLost as lost:
        raise _resumable(run, lost) from lost


def _resumable(run: _Run, lost: RankLost) -> RankLost:
    """The sentence on a process that has ended, and on how to go on."""
    command = f"unroll train --resume {shell_word(run.out)}"
    if not run.ranks.first:
        return RankLost(f"{lost} Go on with `{command}`.")
    if read_end(run.out) is not None:
        return RankLost(f"{lost} The run is trained to its end, but not measured; that is left to `{command}`.")
    saved = newest(run.out)
    step = 0 if saved is None else RunState.from_json(saved[0].state).step
    where = f"was saved after step {step:,}; go on from there" if step else "had not been saved yet; begin again"
    return RankLost(f"{lost} The run {where} with `{command}`.")


def _complete(run: _Run, finished: FinishedRun, provenance: Provenance, scored: int) -> FinishedRun:
    """Leave a complete run as it is, and measure and write what is missing of its results."""
    console, out = run.console, run.out
    if run.ranks.first:
        _say_complete(run)
        if not (out / METRICS).is_file():
            MetricsFile(out, finished.validations)
    known = run.ranks.of_first(lambda: is_measured(finished))
    if not run.ranks.first:
        with _resumable_where_lost(run):
            if not known:
                measure(finished, scored, run.ranks)
        return finished
    if not (known and has_cards(finished) and (out / CURVES).is_file() and (out / REPORT).is_file()):
        console.say("Writing what is missing of the results …")
        with _resumable_where_lost(run):
            results = (
                complete_results(finished, provenance)
                if known
                else leave_results(finished, provenance, scored, run.ranks)
            )
        show_outcome(console, finished, results, "Done", run.record.resumable)
    return finished


def _say_complete(run: _Run) -> None:
    name = in_a_line(os.fspath(run.out))
    run.console.say(f"This run is complete, and its results are in {name}. To train its network on:")
    run.console.whole(f"  unroll train CORPUS --from {shell_word(run.out / 'best')}")


def _calm_kernels(device: torch.device) -> None:
    """Let no kernel of this process start threads of its own: those that share rows have what cores there are."""
    if device.type == "cpu":
        torch.set_num_threads(1)


def _ending(trainer: Trainer, speed: SpeedWatcher) -> str:
    """How the run ended, in a few words: by its budget of time, with all that it was to read, or before."""
    ids = trainer.budget.ids
    in_time = trainer.budget.seconds is None or trainer.elapsed() < trainer.budget.seconds
    whole = in_time or (ids is not None and trainer.state.ids >= ids)
    return speed.ending(trainer.state.step, trainer.speed(), whole, trainer.stopped_early)


def _metrics(run: _Run, state: RunState) -> MetricsFile:
    try:
        return MetricsFile(run.out, state.validations)
    except OSError as error:
        raise TrainingError(
            f"The run cannot be written to {run.out} ({error.strerror}); choose another --out."
        ) from error


def _tensorboard(run: _Run, state: RunState) -> "TensorBoardLog | None":
    """The log, where the user asked for it; only then its library is loaded."""
    if not run.record.tensorboard:
        return None
    from training.monitoring.tensorboard_log import TensorBoardLog

    return TensorBoardLog(run.out, resumed_at=state.step or None)


def _forget_state(out: Path) -> None:
    """Remove the saved state of an earlier run in the same folder."""
    for left in [*(out / FOLDER).glob("*.safetensors"), *(out / FOLDER).glob(ENDED)]:
        left.unlink()
