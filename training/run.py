"""A whole run: read the corpus, plan, train, measure what came out, and leave it in a folder."""

import itertools
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console

from model.checkpoint import Precision
from model.errors import ParameterError, TrainingError
from model.tokenizer import Tokenizer, count_characters
from training.allocator import keep_buffers
from training.corpus import Corpus, CorpusFacts, find_sources
from training.plan import Plan, Wishes, make_plan, products
from training.progress import TerminalWatcher
from training.report import MetricsFile, machine
from training.results import Figures, Origin, final_scores, leave_results
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
    out, device = run_folder(request), choose_device(request.device)
    corpus = Corpus(find_sources(request.names, request.encoding), request.encoding)
    facts, counts = corpus.survey()
    tokenizer = Tokenizer(counts.frequent(request.min_count) or "\n")
    parts = split(corpus.encode(tokenizer), request.scheme)
    plan = make_plan(request.wishes, tokenizer.size, count_characters(parts.train), device)
    show_plan(console, plan, facts, parts, tokenizer, device)
    scored, finish = final_scores(plan.config, parts, device)
    try:
        out.mkdir(parents=True, exist_ok=True)
        metrics = MetricsFile(out)
    except OSError as error:
        raise TrainingError(f"The run cannot be written to {out} ({error.strerror}); choose another --out.") from error
    terminal = TerminalWatcher(console, started)
    trainer = Trainer(
        plan.config,
        tokenizer,
        parts,
        out,
        [metrics, terminal],
        device=device,
        precision=request.precision,
        started=started,
        finish=finish,
    )
    origin = Origin(facts, parts.scheme, plan.config, machine(device), shlex.join(request.command))
    with stop_on_signals(trainer):
        try:
            with terminal:
                outcome = trainer.run()
        except TrainingError:  # a lost run's best checkpoint is worth measuring, too
            if trainer.outcome.checks:
                leave_results(trainer, origin, scored)
            raise
        console.print("Scoring the best checkpoint …", highlight=False)
        figures = leave_results(trainer, origin, scored)
    show_outcome(console, out, outcome, figures)
    return outcome


def run_folder(request: Request) -> Path:
    """Where the run goes. Raises TrainingError rather than write over the checkpoints of an earlier run."""
    if request.out is not None:
        if request.out.exists() and not request.out.is_dir():
            raise TrainingError(f"{request.out} is a file, not a folder for a run; choose another --out.")
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
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    devices = ["cpu", *(["cuda", *gpus] if gpus else [])]
    if name not in devices:
        raise ParameterError(
            "device", f"device is {name!r}; choose auto, or one this machine has: {', '.join(devices)}."
        )
    return torch.device(name)


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


def show_outcome(console: Console, out: Path, outcome: Outcome, figures: Figures) -> None:
    """Print how it ended and what to do with it."""
    ended = "Stopped early, saved" if outcome.stopped_early else "Done"
    console.print(f"{ended}: {outcome.steps:,} steps, best at step {outcome.best_step:,}.", highlight=False)
    for part, score in figures.items():
        console.print(
            f"  {part}: {score.bits_per_character:.4f} bits, {score.nats_per_character:.4f} nats per character "
            f"({score.protocol})",
            highlight=False,
            soft_wrap=True,
        )
    best = shlex.quote(str(out / "best"))
    console.print(
        f"Try:    unroll generate {best}\nServe:  unroll serve {best}", highlight=False, markup=False, soft_wrap=True
    )
