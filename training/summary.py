"""The lines that a run prints: its corpus and plan before it begins, its results when it ends."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.table import Table

from model.command_line.console import TerminalConsole
from model.command_line.terminal import in_a_line, percent, shell_word
from model.config import products
from training.data.corpus import Corpus
from training.data.prepared_corpus import Prepared
from training.data.split import Split
from training.items.split import too_few
from training.loop.finished_run import FinishedRun
from training.measurement import Figures
from training.planning.lists import lines_of
from training.planning.plan import Plan
from training.report.card import in_words
from training.report.report import REPORT
from training.results import Results
from training.teachers import Teacher, taught_bytes

NAMED = 3  # sources of a corpus that are named
LABELLED = 10  # labels that are named
TABLED = 10  # files of another encoding that are named

PARTS = ("validation", "test", "validation and test")
PROTOCOLS = {
    "carried": ("", "one pass, the state carried on from character to character"),
    "alone": ("", "the end of each item counts as well"),
    "cold": (", cold", "every window begins with an empty state, as nanoGPT measures"),
}
"""Ways to read a text for its figures: how their names among the figures end, and what they do."""


def show_plan(
    console: TerminalConsole,
    plan: Plan,
    corpus: Corpus,
    prepared: Prepared,
    parts: Split,
    device: torch.device,
    processes: int = 1,
    teachers: Sequence[Teacher] = (),
    labelled: bool = False,
) -> None:
    """Print the corpus, what of it was left out, and the plan.

    processes: that train together. labelled: whether the labels of this list were read, beside those of --from.
    """
    config, network = plan.config, plan.config.network
    budget = [f"{config.minutes:g} minute{'s' * (config.minutes != 1)}"] if config.minutes else []
    budget += [f"{config.epochs:g} pass{'es' * (config.epochs != 1)}"] if config.epochs else []
    threads = f", {config.threads} threads" if config.threads > 1 else ", 1 thread"
    threads = threads if device.type == "cpu" else ""
    threads = f", {processes} processes{threads and threads.replace(', ', ' of ', 1)}" if processes > 1 else threads
    pace = f", about {plan.characters_per_second:,.0f} characters/s" if plan.characters_per_second else ""
    sizes = " / ".join(f"{len(part):,}" for part in (parts.train, parts.validation, parts.test))
    shape = f"{network.layers} × {network.hidden} {network.cell.upper()}, embedding {network.embedding}"
    shape += f", attention to {network.attention} characters" if network.attention else ""
    windows = f" × {config.accumulate} windows" if config.accumulate > 1 else ""
    sequences = f"{config.batch_size} sequences × {config.sequence_length} characters{windows}"
    steps = f"{sequences}, rate {config.learning_rate:g}"
    cost = f"{plan.passes:.1f} passes of {products(network) / 1e6:.2f} M multiply-adds a character{pace}"
    console.rows(
        [
            *_of_corpus(corpus, prepared),
            *_advice(prepared),
            ("split", f"{parts.scheme}: {sizes} ids to train / validate / test" + _of_items(parts)),
            *_of_answers(config.learn_after),
            *_of_labels(prepared.tokenizer.frame.labels, labelled),
            ("network", f"{shape}, {network.parameters():,} parameters"),
            ("regularisation", in_words(config.to_json())),
            ("training", f"{steps}, {config.precision} on {device.type}{threads}"),
            *_of_teachers(config.teacher_share, teachers, taught_bytes(len(parts.train), prepared.tokenizer)),
            ("budget", f"at most {' or '.join(budget)}: {cost}"),
        ]
    )


def _advice(prepared: Prepared) -> Iterator[tuple[str, str]]:
    """What would be better for a text that seems to be a list, as a row."""
    if not prepared.tokenizer.frame.items:
        lines = lines_of(prepared.ids, prepared.tokenizer)
        if lines.are_a_list:
            yield (
                "lines",
                f"{lines.in_words()}: this seems to be a list, of which one long text learns the order, too; --items "
                "trains on each line by itself",
            )


def _of_answers(learn_after: str) -> Iterator[tuple[str, str]]:
    """What is learnt of each item, as a row where it is not all."""
    if learn_after:
        yield "answers", f"of each item what follows {learn_after!r} is learnt and scored"


def _of_labels(labels: Sequence[str], labelled: bool) -> Iterator[tuple[str, str]]:
    """The labels of items, as a row where there are any."""
    if labels:
        more = " …" if len(labels) > LABELLED else ""
        whose = "" if labelled else ", all of the checkpoint; --label reads those of this list, too"
        yield "labels", f"{len(labels):,}: {in_a_line(', '.join(labels[:LABELLED]))}{more}{whose}"


def _of_teachers(share: float, teachers: Sequence[Teacher], taught: int) -> Iterator[tuple[str, str]]:
    """Whom the network learns from, as a row where there is anyone. taught: bytes of what they expect, in a process."""
    if teachers:
        verb = "expects" if len(teachers) == 1 else "expect on average"
        held = f", kept in {taught / 1e6:,.1f} MB" if share else ""
        yield "teachers", f"{share:g} of the loss is what {', '.join(one.name for one in teachers)} {verb}{held}"


def _of_items(parts: Split) -> str:
    """What becomes of a list, in words."""
    if not parts.separator:
        return ""
    if not parts.held_out:
        return f"; {too_few(parts.learn_after)}, so none is held out"
    return ", whole items, equal ones in one part" + (", as answers to one question" if parts.learn_after else "")


def _of_corpus(corpus: Corpus, prepared: Prepared) -> Iterator[tuple[str, str]]:
    """What was read, what was not, and what became of rare characters, as rows."""
    facts, rare, kept = prepared.facts, prepared.rare, len(prepared.tokenizer.characters)
    named = ", ".join(in_a_line(Path(name).name) for name in facts.names[:NAMED])
    more = " …" if len(facts.names) > NAMED else ""
    reused = ", prepared before" if prepared.reused else ""
    yield "corpus", f"{named}{more}: {facts.characters:,} characters, {max(kept, rare.different):,} different{reused}"
    if len(facts.names) > 1 or len(corpus.left_out):
        yield "files", corpus.left_out.sentence(len(facts.names))
        yield from (("", in_a_line(line)) for line in corpus.left_out.surprises())
    yield from _undecodable(corpus)
    if rare.planned:
        yield (
            "characters",
            f"{kept:,} have an id; the others, {percent(rare.share)} of the text, occur less than {rare.min_count} "
            "times each and are spelt in bytes, which makes steps faster (--min-count 1 keeps all)",
        )
    elif rare.proposed:
        yield "characters", f"most are rare; --min-count {rare.proposed} would make steps faster"


def _undecodable(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """Files of another encoding, one by one."""
    if corpus.undecodable:
        done = "read with U+FFFD in it" if corpus.replacing else "skipped"
        yield f"not {corpus.encoding}", f"{len(corpus.undecodable):,}, {done}:"
    for number, (name, at) in enumerate(corpus.undecodable.items()):
        if number == TABLED:
            yield "", "…"
            return
        yield "", f"{in_a_line(name)}, from byte {at:,} on"


def show_outcome(
    console: TerminalConsole, run: FinishedRun, results: Results, ended: str, resumable: bool = True
) -> None:
    """Print how the run ended, its figures, and the commands to use it. ended: in a few words."""
    test = results.figures["test"]
    part = "test" if run.split.held_out else "the items it learnt from,"
    figure = f"{part} {test.bits_per_character:.2f} bits per character{test.stretch}"
    console.say(f"{ended}: {figure}. {run.step:,} steps, best at step {run.best_step:,}.")
    console.print()
    _show_figures(console, results.figures)
    console.print()
    for note in [*results.notes, *_lower_after_stop(run), results.copied]:
        console.say(note)
    best = shell_word(run.folder / "best")
    if run.stopped_early and not resumable:
        console.say("The corpus came through a pipe, so the run cannot be resumed; train its `best` on with --from.")
    elif run.stopped_early:
        again = f" --processes {run.processes}" if run.processes > 1 else ""
        console.whole(f"Resume: unroll train --resume {shell_word(run.folder)}{again}")
    console.whole(f"Report: {shell_word(run.folder / REPORT)}")
    console.whole(f"Try:    unroll generate {best}")
    console.whole(f"Serve:  unroll serve {best}")


def _show_figures(console: TerminalConsole, figures: Figures) -> None:
    """Bits per character: a row for each protocol, a column for each part; and what the protocols are."""
    table = Table("bits per character", *PARTS, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    words = []
    for column in table.columns[1:]:
        column.justify = "right"
    items = figures["test"].items is not None
    for protocol, (suffix, meaning) in PROTOCOLS.items():
        if "test" + suffix in figures and items == (protocol == "alone"):
            table.add_row(protocol, *(f"{figures[part + suffix].bits_per_character:.4f}" for part in PARTS))
            words.append((protocol, f"{meaning} ({figures['test' + suffix].protocol})"))
    if items:
        table.add_row("bits per item", *(f"{figures[part].bits_per_item or 0:.2f}" for part in PARTS))
    console.print(table)
    console.rows(words)


def _lower_after_stop(run: FinishedRun) -> list[str]:
    """Why the last check of a stopped run may be lower than that of its best checkpoint, where it is."""
    last, best = run.validations[-1].validation_bits, run.validation_at(run.best_step).validation_bits
    if not run.stopped_early or last >= best:
        return []
    return [
        f"The check after the stop, {last:.3f} bits, is lower than that of `best`, {best:.3f}: its weights are in "
        "`last` alone, so that a resumed run equals one that was never stopped."
    ]
