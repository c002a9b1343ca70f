"""The verbs `unroll train` and `unroll evaluate`."""

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from model.errors import CorpusError, ParameterError, UnrollError

CellName = Literal["lstm", "gru", "rnn"]
TrainingArithmetic = Literal["auto", "bf16", "fp32"]
ReaderName = Literal["network", "fp32", "int8"]

CorpusArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CORPUS]...", help="Files, folders (every text file below), .gz files, or - for standard input."
    ),
]
EncodingOption = Annotated[str, typer.Option(help="Text encoding of the corpus: utf-8, latin-1, cp1252, utf-16 …")]
SPLIT = "nanogpt (first 90 %, then twice 5 %) or percentages to train/validate/test on."


def train(
    corpus: CorpusArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; DIR/best and DIR/last are checkpoints.", show_default="runs/CORPUS"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in that folder.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option(help="Budget in minutes from the start of the command.", show_default="5, or none with --epochs"),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Budget in passes over the train part.", show_default="at most 60")
    ] = None,
    seed: Annotated[int, typer.Option(help="Whole number; with --epochs the run repeats itself exactly.")] = 1,
    encoding: EncodingOption = "utf-8",
    min_count: Annotated[int, typer.Option(help="Characters rarer than this are spelt in UTF-8 bytes.", min=1)] = 1,
    split: Annotated[str, typer.Option(help=SPLIT)] = "90/5/5",
    cell: Annotated[CellName, typer.Option(help="Recurrent cell.")] = "lstm",
    layers: Annotated[int | None, typer.Option(help="Recurrent layers.", show_default="planned")] = None,
    hidden: Annotated[int | None, typer.Option(help="Width of the hidden state.", show_default="planned")] = None,
    embedding: Annotated[
        int | None, typer.Option(help="Width of a character's embedding.", show_default="planned")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of values dropped, 0 to below 1.", show_default="planned")
    ] = None,
    lanes: Annotated[
        int | None, typer.Option(help="Sequences read in parallel.", show_default="32, fewer for a short text")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Characters gradients flow back through.", show_default="64, less for a short text"),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate.", show_default="planned")] = None,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient over all weights.")] = 1.0,
    arithmetic: Annotated[
        TrainingArithmetic, typer.Option(help="Of the products; auto is bf16 where the hardware has it.")
    ] = "auto",
    weights: Annotated[
        Literal["float32", "float16"], typer.Option(help="Weights on disk; float16 halves the file.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a character-level language model on any text.

    What is not chosen is planned from the corpus and the budget; the plan is printed first. Ctrl-C saves and stops.
    Without CORPUS it trains on the English reference prose every Python carries.

    Examples:

      unroll train

      unroll train book.txt --minutes 4 --out runs/book

      unroll train letters/ diary.txt.gz --encoding latin-1

      zcat logs.gz | unroll train - --cell gru --epochs 3
    """
    started = time.monotonic()
    require("torch", "matplotlib")
    from training.plan import Wishes
    from training.run import Request, run

    wishes = Wishes(
        cell=cell,
        layers=layers,
        hidden=hidden,
        embedding=embedding,
        dropout=dropout,
        lanes=lanes,
        length=length,
        rate=rate,
        clip=clip,
        arithmetic=None if arithmetic == "auto" else arithmetic,
        epochs=epochs,
        minutes=5.0 if minutes is None and epochs is None else minutes,
        seed=seed,
    )
    request = Request(
        names=tuple(corpus or ()),
        out=out,
        overwrite=overwrite,
        wishes=wishes,
        encoding=encoding,
        min_count=min_count,
        scheme=split,
        precision=weights,
        device=device,
        command=_command(corpus or []),
    )
    run(request, Console(), started)


def require(*packages: str) -> None:
    """Raise UnrollError where what training needs is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise UnrollError(
            f"Training needs {' and '.join(missing)}, which serving does not; install it with `make train` in Unroll's "
            "folder, or with pip as the extra `train`."
        )


def _command(corpus: list[str]) -> tuple[str, ...]:
    """The command line for the card, without the folders of whoever ran it."""
    named = {word: Path(word).resolve().name for word in corpus if word != "-"}
    words = [named.get(word, word) for word in sys.argv[1:]]
    return ("unroll", *(Path(word).name if Path(word).is_absolute() else word for word in words))


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    corpus: Annotated[list[str], typer.Argument(metavar="CORPUS...", help="Files, folders, .gz files, or -.")],
    split: Annotated[str, typer.Option(help="whole, " + SPLIT)] = "whole",
    encoding: EncodingOption = "utf-8",
    reader: Annotated[
        ReaderName, typer.Option(help="The PyTorch network, or the CPU decoder in fp32 or int8 as it is served.")
    ] = "network",
    lanes: Annotated[
        int | None,
        typer.Option(
            help="Stretches read side by side, each from a zero state.", show_default="one per 16,384 ids", min=1
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
    write_surprise: Annotated[
        bool,
        typer.Option(
            "--write-surprise",
            help="Also measure how surprising passages of the validation part are, and keep that in the checkpoint, "
            "as a training run does: what the service holds other texts against.",
        ),
    ] = False,
) -> None:
    """Measure bits and nats per character of a text, with the state carried.

    Examples:

      unroll evaluate runs/book/best other-book.txt

      unroll evaluate runs/book/best book.txt --split 90/5/5 --json

      unroll evaluate runs/book/best book.txt --split 90/5/5 --reader int8

      unroll evaluate runs/book/best book.txt --split 90/5/5 --write-surprise
    """
    if write_surprise and split == "whole":
        raise ParameterError(
            "split", "--write-surprise needs the validation part; name the --split the model was trained with."
        )
    require("torch")
    from model.checkpoint import load
    from model.decoder import Decoder
    from model.network import from_tensors
    from model.tokenizer import count_characters
    from training.corpus import Corpus, find_sources
    from training.evaluate import carried, decoder_reader, network_reader
    from training.split import split as cut
    from training.surprise import card_line, rewrite

    model = load(checkpoint)
    ids = Corpus(find_sources(corpus, encoding), encoding).encode(model.tokenizer)
    if count_characters(ids) < 2:
        raise CorpusError("The text has fewer than two characters, so there is nothing to predict; name a longer one.")
    parts = {"whole": ids}
    if split != "whole":
        pieces = cut(ids, split)
        parts = {"validation": pieces.validation, "test": pieces.test}
    read = (
        network_reader(from_tensors(model.config, model.tensors))
        if reader == "network"
        else decoder_reader(Decoder(model, reader, every_id=True))
    )
    scores = {part: carried(read, piece, lanes) for part, piece in parts.items()}
    if split != "whole":
        scores["validation and test"] = scores["validation"] + scores["test"]
    surprise = rewrite(checkpoint, parts["validation"]) if write_surprise else None
    if as_json:
        typer.echo(json.dumps({"split": split, "reader": reader, "parts": {p: s.to_json() for p, s in scores.items()}}))
        return
    table = Table("part", "characters", "bits per character", "nats per character", "protocol")
    for part, score in scores.items():
        bits, nats = f"{score.bits_per_character:.4f}", f"{score.nats_per_character:.4f}"
        table.add_row(part, f"{score.characters:,}", bits, nats, f"{score.protocol}; {reader}")
    Console().print(table)
    if surprise is not None:
        Console().print(f"{card_line(surprise)}\nKept in {checkpoint}.", highlight=False, markup=False, soft_wrap=True)
