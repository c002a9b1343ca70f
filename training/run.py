"""A whole run: read the corpus, plan, train, measure what came out, and leave it in a folder."""

import itertools
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console

from model.checkpoint import Checkpoint, Precision, load, save
from model.errors import ParameterError, TrainingError
from model.network import Network, from_tensors
from model.tokenizer import Tokenizer, count_characters
from training.allocator import keep_buffers
from training.config import TrainingConfig
from training.corpus import Corpus, CorpusFacts, find_sources
from training.evaluate import LANE, WINDOW, carried, network_reader
from training.plan import Plan, Wishes, make_plan, products
from training.progress import TerminalWatcher
from training.report import CURVES, MetricsFile, card, draw_curves, machine
from training.split import DEFAULT, Split, split
from training.trainer import Outcome, Trainer


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asks of a run.

    names: files, folders, "-"; none = the reference prose Python carries.
    out: the run's folder; None = one of its own below runs/, named after the corpus.
    overwrite: replace the checkpoints of an earlier run in it.
    min_count: characters rarer than this are spelt in bytes. precision: of the weights on disk.
    command: the command line, for the card.
    """

    names: tuple[str, ...]
    wishes: Wishes
    out: Path | None = None
    overwrite: bool = False
    encoding: str = "utf-8"
    min_count: int = 1
    scheme: str = DEFAULT
    precision: Precision = "float32"
    device: str = "auto"
    command: tuple[str, ...] = ("unroll", "train")


def run(request: Request, console: Console, started: float) -> Outcome:
    """Train from a corpus to a run folder.

    started: time.monotonic() at the start of the command, from which a budget in minutes counts.
    Raises CorpusError before anything is trained, TrainingError when a run is lost.
    """
    keep_buffers()
    out = run_folder(request)
    corpus = Corpus(find_sources(request.names, request.encoding), request.encoding)
    facts, counts = corpus.survey()
    tokenizer = Tokenizer(counts.frequent(request.min_count) or "\n")
    parts = split(corpus.encode(tokenizer), request.scheme)
    device = choose_device(request.device)
    plan = make_plan(request.wishes, tokenizer.size, count_characters(parts.train), device)
    show_plan(console, plan, facts, parts, tokenizer, device)
    scored, finish = final_figures(plan, parts)
    out.mkdir(parents=True, exist_ok=True)
    terminal = TerminalWatcher(console, started)
    trainer = Trainer(
        plan.config,
        tokenizer,
        parts,
        out,
        [MetricsFile(out), terminal],
        device=device,
        precision=request.precision,
        started=started,
        finish=finish,
    )
    with stop_on_signals(trainer), terminal:
        outcome = trainer.run()
    best = load(out / "best")
    training = {"name": out.name, **describe(request, facts, plan.config, parts, outcome, best, scored)}
    card_text = card(best.config, training)
    save(replace(best, training=training, card=card_text), out / "best", request.precision)
    draw_curves(outcome.checks, out / CURVES)
    show_outcome(console, out, outcome, training)
    return outcome


def run_folder(request: Request) -> Path:
    """Where the run goes. Raises TrainingError rather than write over the checkpoints of an earlier run."""
    if request.out is not None:
        if not request.overwrite and any((request.out / name).exists() for name in ("best", "last")):
            raise TrainingError(
                f"{request.out} holds the checkpoints of an earlier run; choose another --out, or --overwrite them."
            )
        return request.out
    first = request.names[0] if request.names else "reference"
    stem = "stdin" if first == "-" else Path(first).resolve().name.split(".")[0] or "run"
    numbers = (Path("runs") / (stem if number == 1 else f"{stem}-{number}") for number in itertools.count(1))
    return next(folder for folder in numbers if not folder.exists())


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one. Raises ParameterError where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and not torch.cuda.is_available():
        raise ParameterError("device", f"device is {name!r}, but PyTorch finds no GPU it can use; choose auto or cpu.")
    return torch.device(name)


def final_figures(plan: Plan, parts: Split) -> tuple[int, float]:
    """How many ids of validation and of test to score at the end, and the seconds to keep for it.

    All of them, unless that would take more than a tenth of a budget in minutes on this machine, which is measured.
    """
    longest = max(len(parts.validation), len(parts.test))
    if plan.config.minutes is None:
        return longest, 0.0
    read = network_reader(Network(plan.config.network))
    piece = parts.validation[: WINDOW * 16]
    lanes = min(16, max(1, longest // LANE))
    start = time.perf_counter()
    carried(read, piece, lanes)
    carried(read, piece, lanes)
    per_id = (time.perf_counter() - start) / (2 * len(piece))
    most = int(0.1 * plan.config.minutes * 60 / per_id / 2)
    scored = min(longest, max(most, 4 * WINDOW))
    return scored, 2.0 + 2 * scored * per_id


def describe(
    request: Request,
    facts: CorpusFacts,
    config: TrainingConfig,
    parts: Split,
    outcome: Outcome,
    best: Checkpoint,
    scored: int,
) -> dict[str, Any]:
    """How the best checkpoint was made and what it scores: the `training` table of its config.json."""
    read = network_reader(from_tensors(best.config, best.tensors))
    validation, test = (carried(read, part[:scored]) for part in (parts.validation, parts.test))
    figures = {"validation": validation, "test": test, "validation and test": validation + test}
    return {
        "corpus": {
            "files": [Path(name).name for name in facts.names[:20]],
            "characters": facts.characters,
            "encoding": facts.encoding,
            "sha256": facts.sha256,
        },
        "split": parts.scheme,
        "plan": config.to_json(),
        "figures": {part: score.to_json() for part, score in figures.items()},
        "steps": outcome.best_step,
        "characters_read": int(outcome.characters * outcome.best_step / max(1, outcome.steps)),
        "seconds": round(time.monotonic() - outcome.began, 1),
        "machine": machine(),
        "command": shlex.join(request.command),
    }


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run after the step in hand, saved; a second one ends it at once."""

    def stop(number: int, _frame: FrameType | None) -> None:
        trainer.stop = True
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_plan(
    console: Console, plan: Plan, facts: CorpusFacts, parts: Split, tokenizer: Tokenizer, device: torch.device
) -> None:
    """Print what is going to be trained on what."""
    config, network = plan.config, plan.config.network
    budget = [f"{config.minutes:g} minutes"] if config.minutes else []
    budget += [f"{config.epochs:g} passes"] if config.epochs else []
    pace = f", about {plan.characters_per_second:,.0f} characters/s" if plan.characters_per_second else ""
    names = ", ".join(Path(name).name for name in facts.names[:3]) + (" …" if len(facts.names) > 3 else "")
    sizes = " / ".join(f"{len(part):,}" for part in (parts.train, parts.validation, parts.test))
    lines = [
        f"corpus    {names}: {facts.characters:,} characters, {len(tokenizer.characters):,} different",
        f"split     {parts.scheme}: {sizes} ids to train / validate / test",
        f"network   {network.layers} × {network.hidden} {network.cell.upper()}, embedding {network.embedding}, "
        f"dropout {network.dropout:g}: {network.parameters():,} parameters",
        f"training  {config.lanes} lanes × {config.length} characters, rate {config.rate:g}, {config.arithmetic} on "
        f"{device.type}",
        f"budget    at most {' or '.join(budget)}: {plan.passes:.1f} passes of {products(network) / 1e6:.2f} M "
        f"multiply-adds a character{pace}",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def show_outcome(console: Console, out: Path, outcome: Outcome, training: dict[str, Any]) -> None:
    """Print how it ended and what to do with it."""
    ended = "Stopped early, saved" if outcome.stopped_early else "Done"
    console.print(f"{ended}: {outcome.steps:,} steps, best at step {outcome.best_step:,}.", highlight=False)
    for part, score in training["figures"].items():
        console.print(
            f"  {part}: {score['bits_per_character']:.4f} bits, {score['nats_per_character']:.4f} nats per character "
            f"({score['protocol']})",
            highlight=False,
            soft_wrap=True,
        )
    best = shlex.quote(str(out / "best"))
    console.print(
        f"Try:    unroll generate {best}\nServe:  unroll serve {best}", highlight=False, markup=False, soft_wrap=True
    )
