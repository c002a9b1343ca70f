"""What the verbs of training have in common: options worded once, and what must be installed."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from model.errors import UnrollError

SPLIT = "nanogpt (first 90 %, then twice 5 %) or percentages to train/validate/test on."

EncodingOption = Annotated[str, typer.Option(help="Text encoding of the corpus: utf-8, latin-1, cp1252, utf-16 …")]
CorpusArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CORPUS]...", help="Files, folders (every text file below), archives, or - for standard input."
    ),
]

# The run.
OutOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the run; DIR/best and DIR/last are checkpoints.", show_default="runs/CORPUS"),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in that folder.")]
ResumeOption = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Go on with a run that was stopped, killed or ran out of disk; nothing else."),
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="CHECKPOINT", help="Train a trained network on; new characters join its vocabulary."
    ),
]
MinutesOption = Annotated[
    float | None,
    typer.Option(help="Budget in minutes from the start of the command.", show_default="5, or none with --epochs"),
]
EpochsOption = Annotated[
    float | None, typer.Option(help="Budget in passes over the train part.", show_default="at most 60")
]
PatienceOption = Annotated[
    int | None, typer.Option(help="End after so many validations without a new best; 0 never.", show_default="0")
]
SeedOption = Annotated[int, typer.Option(help="Whole number; with --epochs the run repeats itself exactly.")]
TensorboardOption = Annotated[bool, typer.Option("--tensorboard", help="Also write a TensorBoard log into the run.")]
PresetOption = Annotated[
    str | None,
    typer.Option(help="gpu: sizes and rates for three minutes of a GPU, not measured yet; options given go before it."),
]

# The network.
PLANNED = "planned"
CellOption = Annotated[Literal["lstm", "gru", "rnn"], typer.Option(help="Recurrent cell.")]
LayersOption = Annotated[int | None, typer.Option(help="Recurrent layers.", show_default=PLANNED)]
HiddenOption = Annotated[int | None, typer.Option(help="Width of the hidden state.", show_default=PLANNED)]
EmbeddingOption = Annotated[int | None, typer.Option(help="Width of a character's embedding.", show_default=PLANNED)]
SkipOption = Annotated[
    bool | None,
    typer.Option(
        "--skip/--no-skip",
        help="Let the output read every layer, not the last alone. \\[default: where there are several]",
    ),
]

# What is left out while training.
REGULARISATION, STEPS = "Regularisation", "Steps"


def _share(help_: str) -> Any:
    return typer.Option(help=help_, show_default=PLANNED, rich_help_panel=REGULARISATION)


DropoutOption = Annotated[
    float | None, _share("Share dropped between layers and before the output; a quarter of it from the embeddings.")
]
InputDropoutOption = Annotated[float | None, _share("Share dropped from the embeddings.")]
BetweenDropoutOption = Annotated[
    float | None,
    typer.Option(
        "--between-dropout",
        help="Share dropped between layers.",
        show_default=PLANNED,
        rich_help_panel=REGULARISATION,
    ),
]
OutputDropoutOption = Annotated[float | None, _share("Share dropped before the output.")]
LockedOption = Annotated[
    bool | None,
    typer.Option(
        "--locked/--unlocked",
        help="One dropout mask for a window, or one for each character.",
        show_default=PLANNED,
        rich_help_panel=REGULARISATION,
    ),
]
WeightDropOption = Annotated[float | None, _share("Share of the recurrent weights dropped for a window.")]
DropStateOption = Annotated[float | None, _share("Share of sequences whose window starts from a zero state.")]
WeightDecayOption = Annotated[float | None, _share("Decay of the matrices, decoupled from the gradient.")]
AverageOption = Annotated[float | None, _share("Share of the run, its tail, over which weights are averaged.")]
FitTemperatureOption = Annotated[
    bool | None,
    typer.Option(
        "--fit-temperature/--no-fit-temperature",
        help="Scale the logits at the end as fits the validation part best.",
        show_default="fit",
        rich_help_panel=REGULARISATION,
    ),
]


def _step(*names: str, help_: str, default: str = PLANNED) -> Any:
    return typer.Option(*names, help=help_, show_default=default, rich_help_panel=STEPS)


LanesOption = Annotated[
    int | None, _step("--batch-size", help_="Sequences read in parallel.", default="32, fewer for a short text")
]
LengthOption = Annotated[
    int | None,
    _step("--sequence-length", help_="Characters gradients flow back through.", default="64, less for a short text"),
]
JitterOption = Annotated[float | None, _step(help_="Standard deviation of that length, in characters.")]
RateOption = Annotated[float | None, _step("--learning-rate", help_="Highest learning rate.")]
WarmUpOption = Annotated[int | None, _step("--warmup-steps", help_="Steps to the highest rate.")]
DecayOption = Annotated[
    Literal["cosine", "linear", "constant"] | None, _step(help_="How the rate falls to zero after the warm-up.")
]
ClipOption = Annotated[float | None, _step("--max-grad-norm", help_="Largest norm of the gradient over all weights.")]
ArithmeticOption = Annotated[
    Literal["auto", "bf16", "fp32"],
    typer.Option(
        "--arithmetic", help="Of the products; auto is bf16 where the hardware has it.", rich_help_panel=STEPS
    ),
]

ThreadsOption = Annotated[
    int | None,
    _step(
        help_="Threads that share a batch on a CPU. Another number gives the same but for the rounding of sums.",
        default="the cores there are",
    ),
]


def require(*packages: str) -> None:
    """Raise UnrollError where what training needs is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise UnrollError(
            f"Training needs {' and '.join(missing)}, which serving does not; install it with `make train` in Unroll's "
            "folder, or with pip as the extra `train`; in a container, use the image of the Dockerfile's "
            "target `train`."
        )
