"""The verb `unroll train`."""

import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from model.errors import ParameterError
from training.commands import options
from training.commands.options import SPLIT, require


def train(
    context: typer.Context,
    corpus: options.CorpusArgument = None,
    out: options.OutOption = None,
    overwrite: options.OverwriteOption = False,
    resume: options.ResumeOption = None,
    base: options.FromOption = None,
    preset: options.PresetOption = None,
    minutes: options.MinutesOption = None,
    epochs: options.EpochsOption = None,
    patience: options.PatienceOption = None,
    seed: options.SeedOption = 1,
    encoding: options.EncodingOption = "utf-8",
    min_count: Annotated[int, typer.Option(help="Characters rarer than this are spelt in UTF-8 bytes.", min=1)] = 1,
    split: Annotated[str, typer.Option(help=SPLIT)] = "90/5/5",
    weights: Annotated[
        Literal["float32", "float16"], typer.Option(help="Weights on disk; float16 halves the file.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tensorboard: options.TensorboardOption = False,
    cell: options.CellOption = "lstm",
    layers: options.LayersOption = None,
    hidden: options.HiddenOption = None,
    embedding: options.EmbeddingOption = None,
    skip: options.SkipOption = None,
    dropout: options.DropoutOption = None,
    input_dropout: options.InputDropoutOption = None,
    layer_dropout: options.BetweenDropoutOption = None,
    output_dropout: options.OutputDropoutOption = None,
    locked: options.LockedOption = None,
    weight_drop: options.WeightDropOption = None,
    drop_state: options.DropStateOption = None,
    weight_decay: options.WeightDecayOption = None,
    average: options.AverageOption = None,
    fit_temperature: options.FitTemperatureOption = None,
    batch_size: options.LanesOption = None,
    sequence_length: options.LengthOption = None,
    jitter: options.JitterOption = None,
    learning_rate: options.RateOption = None,
    warmup_steps: options.WarmUpOption = None,
    decay: options.DecayOption = None,
    max_grad_norm: options.ClipOption = None,
    precision: options.ArithmeticOption = "auto",
    threads: options.ThreadsOption = None,
) -> None:
    """Train a character-level language model on any text.

    What is not chosen is planned from the corpus and the budget; the plan is printed first. Ctrl-C saves and stops;
    --resume goes on from there as if nothing had happened. Without CORPUS it trains on the English reference prose
    every Python carries.

    Examples:

      unroll train

      unroll train book.txt --minutes 4 --out runs/book

      unroll train --resume runs/book

      unroll train letters/ diary.txt.gz --encoding latin-1 --from runs/book/best

      zcat logs.gz | unroll train - --cell gru --epochs 3
    """
    values = dict(locals())
    started = time.monotonic()
    require("torch")
    from training.planning.plan import PlanOverrides
    from training.planning.presets import with_preset
    from training.planning.request import Request
    from training.run import resume as go_on
    from training.run import run

    if resume is not None:
        _nothing_else(context)
        go_on(resume, Console(), started)
        return
    if base is not None:
        _no_sizes(context)
    chosen = {one.name: values[one.name] for one in fields(PlanOverrides)}
    chosen["precision"] = None if precision == "auto" else precision
    chosen = with_preset(preset, chosen, _given(context))
    if chosen["minutes"] is None and chosen["epochs"] is None:
        chosen["minutes"] = 5.0
    request = Request(
        names=tuple(corpus or ()),
        overrides=PlanOverrides(**chosen),
        out=out,
        overwrite=overwrite,
        base=base,
        encoding=encoding,
        min_count=min_count,
        scheme=split,
        dtype=weights,
        device=device,
        tensorboard=tensorboard,
        command=_command(corpus or []),
    )
    run(request, Console(), started)


def _given(context: typer.Context) -> set[str]:
    """The names of what stands on the command line."""
    return {name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"}  # type: ignore[union-attr]


def _nothing_else(context: typer.Context) -> None:
    """Raise ParameterError where something was chosen beside --resume: the run has its plan."""
    if others := _given(context) - {"resume"}:
        named = ", ".join(sorted(_spelt(context, name) for name in others))
        raise ParameterError("resume", f"--resume goes on with the run's own plan and corpus; leave out {named}.")


def _no_sizes(context: typer.Context) -> None:
    """Raise ParameterError where a size was chosen beside --from: the network has its sizes."""
    if sizes := _given(context) & {"cell", "layers", "hidden", "embedding", "skip"}:
        named = ", ".join(sorted(_spelt(context, name) for name in sizes))
        raise ParameterError("from", f"--from trains a network of the checkpoint's sizes on; leave out {named}.")


def _spelt(context: typer.Context, name: str) -> str:
    """An option as it is written on a command line."""
    parameter: Any = next(one for one in context.command.params if one.name == name)
    return "CORPUS" if name == "corpus" else str(parameter.opts[0])


def _command(corpus: list[str]) -> tuple[str, ...]:
    """The command line for the card, without the user's folders."""
    named = {word: Path(word).resolve().name for word in corpus if word != "-"}
    words = [named.get(word, word) for word in sys.argv[1:]]
    return ("unroll", *(Path(word).name if Path(word).is_absolute() else word for word in words))
