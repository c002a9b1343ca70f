"""Every option of `unroll train`, each said once; what a user does not choose of the plan is planned."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from model.cells.attention import WINDOWS
from model.cells.spec import Cell
from model.command_line.options import SHARE, Range, above_zero, check_ranges, number, option, whole
from model.config import LIMITS, WeightsDtype
from model.errors import ParameterError
from training.data.left_out import OnDecodeError
from training.data.split_scheme import DEFAULT, IN_WORDS, shares_of
from training.items.separator import OF_A_FILE, Label, escaped_text, separator_of
from training.planning.schedule import Decay

Precision = Literal["bf16", "fp32"]
Compression = Literal["none", "bf16"]

NETWORK, REGULARISATION, STEPS = "Network", "Regularisation", "Steps"  # groups of `unroll train --help`
PLANNED = "planned"
MINUTES = 5.0  # the budget where none was chosen
MOST_SEED = 2**63 - 1
TEACHER_SHARE = 0.5  # where there are teachers and none was chosen
OF_TEXTS = "--teacher is for one long text; leave it out for a list of items."


@dataclass(frozen=True, kw_only=True)
class PlanOverrides:
    """What the user chose; None is left to the plan.

    dropout: between layers and before the output, a quarter of it on the embeddings; each of the three by itself goes
    before it. All other names are those of TrainingConfig, Regularisation and NetworkConfig, which explain them.
    Raises ParameterError on a number out of range.
    """

    minutes: float | None = option(
        None,
        "Budget in minutes from the start of the command.",
        shown=f"{MINUTES:g}, or none with --epochs",
        range=above_zero(100_000),
    )
    epochs: float | None = option(
        None, "Budget in passes over the train part.", shown="at most 60", range=above_zero(100_000)
    )
    patience: int | None = option(
        None, "End after so many validations without a new best; 0 never.", shown="0", range=whole(0, 1_000_000)
    )
    seed: int = option(1, "Whole number; with --epochs the run repeats itself exactly.", range=whole(0, MOST_SEED))

    cell: Cell = option("lstm", "Recurrent cell.", NETWORK)
    layers: int | None = option(None, "Recurrent layers.", NETWORK, shown=PLANNED, range=whole(*LIMITS["layers"]))
    hidden: int | None = option(
        None, "Width of the hidden state.", NETWORK, shown=PLANNED, range=whole(*LIMITS["hidden"])
    )
    embedding: int | None = option(
        None, "Width of a character's embedding.", NETWORK, shown=PLANNED, range=whole(*LIMITS["embedding"])
    )
    skip: bool | None = option(
        None,
        "Let the output read every layer, not the last alone.",
        NETWORK,
        flag="--skip/--no-skip",
        shown="skip where there are several",
    )
    attention: int = option(
        0,
        "Let the network point at what followed in so many characters before, a multiple of 16; 0 is without.",
        NETWORK,
        shown="without",
        metavar="WINDOW",
        range=whole(0, WINDOWS[1]),
    )

    dropout: float | None = option(
        None,
        "Share dropped between layers and before the output; a quarter of it from the embeddings.",
        REGULARISATION,
        shown=PLANNED,
        range=SHARE,
    )
    input_dropout: float | None = option(
        None, "Share dropped from the embeddings.", REGULARISATION, shown=PLANNED, range=SHARE
    )
    layer_dropout: float | None = option(
        None,
        "Share dropped between layers.",
        REGULARISATION,
        former=("between-dropout",),
        shown=PLANNED,
        range=SHARE,
    )
    output_dropout: float | None = option(
        None, "Share dropped before the output.", REGULARISATION, shown=PLANNED, range=SHARE
    )
    locked: bool | None = option(
        None,
        "One dropout mask for a window, or one for each character.",
        REGULARISATION,
        flag="--locked/--unlocked",
        shown="locked",
    )
    weight_drop: float | None = option(
        None, "Share of the recurrent weights dropped for a window.", REGULARISATION, shown=PLANNED, range=SHARE
    )
    drop_state: float | None = option(
        None, "Share of sequences whose window starts from a zero state.", REGULARISATION, shown=PLANNED, range=SHARE
    )
    weight_decay: float | None = option(
        None,
        "Decay of the matrices, decoupled from the gradient.",
        REGULARISATION,
        shown=PLANNED,
        range=number(0, 1),
    )
    average: float | None = option(
        None,
        "Share of the run, its tail, over which weights are averaged.",
        REGULARISATION,
        shown=PLANNED,
        range=number(0, 1),
    )
    teacher_share: float | None = option(
        None,
        "Share of the loss that is the teachers', in place of the text's.",
        REGULARISATION,
        shown="0.5 with --teacher",
        range=number(0, 1),
    )
    fit_temperature: bool | None = option(
        None,
        "Scale the logits at the end as fits the validation part best.",
        REGULARISATION,
        flag="--fit-temperature/--no-fit-temperature",
        shown="fit",
    )

    batch_size: int | None = option(
        None,
        "Sequences read in parallel.",
        STEPS,
        former=("lanes",),
        shown="32, fewer for a short text",
        range=whole(1, 4_096),
    )
    sequence_length: int | None = option(
        None,
        "Characters gradients flow back through.",
        STEPS,
        former=("length",),
        shown="64, less for a short text",
        range=whole(2, 4_096),
    )
    jitter: float | None = option(
        None, "Standard deviation of that length, in characters.", STEPS, shown=PLANNED, range=number(0, 1_024)
    )
    learning_rate: float | None = option(
        None, "Highest learning rate.", STEPS, former=("rate",), shown=PLANNED, range=above_zero(1)
    )
    warmup_steps: int | None = option(
        None,
        "Steps to the highest rate.",
        STEPS,
        former=("warm-up",),
        shown=PLANNED,
        range=whole(0, 1_000_000),
    )
    decay: Decay | None = option(None, "How the rate falls to zero after the warm-up.", STEPS, shown=PLANNED)
    max_grad_norm: float | None = option(
        None,
        "Largest norm of the gradient over all weights.",
        STEPS,
        former=("clip",),
        shown=PLANNED,
        range=above_zero(1_000_000_000),
    )
    accumulate: int | None = option(
        None,
        "Windows read for each step; processes then exchange gradients that much more seldom.",
        STEPS,
        shown="1",
        range=whole(1, 1_024),
    )
    compression: Compression | None = option(
        None, "Of gradients on their way between processes: bf16 halves the bytes.", STEPS, shown="none"
    )
    precision: Literal["auto", Precision] = option(
        "auto",
        "Of the matrix products; auto is bf16 where the hardware has it.",
        STEPS,
        former=("arithmetic",),
    )
    threads: int | None = option(
        None,
        "Threads that share a batch on a CPU. Another number gives the same but for the rounding of sums.",
        STEPS,
        shown="the cores there are",
        range=whole(1, 256),
    )

    def __post_init__(self) -> None:
        check_ranges(self, PlanOverrides)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What a user asks of a run; `unroll train` is made from these fields in this order.

    corpus: files, folders, "-"; none is the reference prose Python carries.
    out: the run's folder; None is one of its own below runs/, named after the corpus.
    resume: the run to go on with, which has its own plan and corpus. base: a checkpoint to train on. teachers: some
    whose distributions are learnt beside the text.
    processes: that are started here to share each batch; 1 where torchrun has started them.
    command: the command line, for the card.
    Raises ParameterError on a number out of range and on an unknown split.
    """

    corpus: tuple[str, ...] = option(
        (),
        "Files, folders (every text file below), archives, or - for standard input.",
        metavar="[CORPUS]...",
        argument=True,
    )
    out: Path | None = option(None, "Folder of the run; DIR/best and DIR/last are checkpoints.", shown="runs/CORPUS")
    overwrite: bool = option(False, "Replace an earlier run in that folder.", flag="--overwrite")
    resume: Path | None = option(
        None, "Go on with a run that was stopped, killed or ran out of disk; leave out all else.", metavar="RUN"
    )
    base: Path | None = option(
        None,
        "Train a trained network on; new characters join its vocabulary.",
        flag="--from",
        metavar="CHECKPOINT",
    )
    teachers: tuple[Path, ...] = option(
        (),
        "Learn from the text and from what a trained network of the same characters expects of it; repeat it for the "
        "mean of several.",
        flag="--teacher",
        metavar="CHECKPOINT",
    )
    preset: str | None = option(
        None, "gpu: sizes and rates for three minutes of a GPU, never run on one yet; an option given beside it wins."
    )
    overrides: PlanOverrides = field(default_factory=PlanOverrides)
    encoding: str = option("utf-8", "Text encoding of the corpus: utf-8, latin-1, cp1252, utf-16 …")
    on_decode_error: OnDecodeError = option(
        "fail", "What becomes of a file that is not of that encoding: fail, skip it, or replace such bytes by U+FFFD."
    )
    min_count: int | None = option(
        None,
        "Characters rarer than this are spelt in UTF-8 bytes; planned where there are very many different ones.",
        shown="1, or planned",
        range=Range(1, float("inf"), "a whole number from 1"),
    )
    items: bool = option(
        False, "The corpus is a list in no order, one item a line: each begins anew, and ends.", flag="--items"
    )
    item_separator: str | None = option(
        None, r"What ends an item of several lines: \n\n is an empty line.", metavar="TEXT", shown=r"\n with --items"
    )
    item_files: bool = option(False, "Each file of the corpus is an item.", flag="--item-files")
    learn_after: str | None = option(
        None,
        r"Of each item learn and score only what follows this text, such as \t between a question and its answer.",
        metavar="TEXT",
        shown="that of --from, or none; '' with --from learns all",
    )
    label: Label | None = option(
        None,
        "Items have a label, by which they can be asked for: prefix, what stands before the first | of each, or "
        "file-name, the name of the file they are in. Implies --items.",
        shown="none",
    )
    chat_format: Path | None = option(
        None,
        "File of JSON that says how a chat is written in the corpus, for servers of the model; see docs/api.md.",
        shown="that of --from, or none",
        metavar="FILE",
    )
    split: str = option(DEFAULT, IN_WORDS)
    dtype: WeightsDtype = option("float32", "Weights on disk; float16 halves the file.", flag="--weights")
    device: str = option("auto", "auto, cpu or cuda (never run on a GPU yet).")
    processes: int = option(
        1,
        "Processes of this machine that share each batch, started by torchrun's engine; for several machines, see "
        "docs/scaling.md.",
        range=whole(1, 256),
    )
    tensorboard: bool = option(False, "Also write a TensorBoard log into the run.", flag="--tensorboard")
    command: tuple[str, ...] = ("unroll", "train")

    def __post_init__(self) -> None:
        check_ranges(self, TrainOptions)
        shares_of(self.split)
        if self.item_files and self.items:
            raise ParameterError(
                "item_files", "--item-files makes each file an item, and --items each line; leave out one of them."
            )
        if self.item_files and self.item_separator is not None:
            raise ParameterError("item_files", "--item-files makes each file an item; leave out --item-separator.")
        if self.item_files and self.label == "file-name":
            raise ParameterError(
                "label", "With --item-files each item would have a label of its own; choose --label prefix, or none."
            )
        if self.overrides.teacher_share is not None and not self.teachers:
            raise ParameterError("teacher_share", "--teacher-share is the teachers'; name one with --teacher.")
        if self.teachers and self.separator(""):
            raise ParameterError("teacher", OF_TEXTS)
        if self.item_separator is not None:
            separator_of(self.item_separator)
        if self.learn_after or (self.learn_after is not None and self.base is None):
            escaped_text(self.learn_after, "learn_after")

    def answers_after(self, before: str) -> str:
        """The text in each item after which it is learnt; "" where all of it is. before: that of --from."""
        if self.learn_after is None:
            return before
        return escaped_text(self.learn_after, "learn_after") if self.learn_after else ""

    @property
    def share_of_teachers(self) -> float:
        """Of the loss; 0 without teachers."""
        share = self.overrides.teacher_share
        return (TEACHER_SHARE if share is None else share) if self.teachers else 0.0

    def separator(self, before: str) -> str:
        """What ends each item of the corpus; "" where it is one long text. before: that of --from."""
        if self.item_files:
            return OF_A_FILE
        if self.item_separator is not None:
            return separator_of(self.item_separator)
        if self.items:
            return "\n"
        return before or ("\n" if self.label else "")
